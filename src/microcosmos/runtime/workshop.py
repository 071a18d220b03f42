"""What deployments are made with: from a source to something that replicas can be started from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from microcosmos.base.clock import Clock
from microcosmos.base.home import Home
from microcosmos.registry.interface import OwnRegistry

from .build import Build, Builds
from .checkout import Checkouts
from .children import Children
from .deployment import Deployment, Deployments
from .environment import Platform
from .failure import Failure
from .interface import ProcessSpec
from .logs import Logs
from .replica import Blueprint
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Workshop:
    """Everything that a deployment needs, shared by all of them."""

    home: Home
    records: Deployments
    checkouts: Checkouts
    builds: Builds
    children: Children
    registry: OwnRegistry
    logs: Logs
    platform: Platform
    settings: Settings
    clock: Clock

    def has_source(self, deployment: Deployment) -> bool:
        """Whether the deployment's source is in its place."""
        place = self.checkouts.place(deployment.label, deployment.hash)
        return bool(deployment.hash) and place.is_dir()

    async def fetch(self, deployment: Deployment) -> Deployment:
        """Bring the source, unless it is there; the answer has its hash.

        Raises:
            Failure: it cannot be had.
        """
        if self.has_source(deployment):
            return deployment
        source = deployment.source
        if source.kind == "folder":
            raise Failure(f"its source is gone; type micro update {source.location}")
        found = await self.checkouts.fetch(deployment.label, source, deployment.generation)
        return msgspec.structs.replace(deployment, hash=found.hash, commit=found.commit)

    async def build(self, deployment: Deployment) -> Build:
        """Make what the deployment's replicas start with.

        Raises:
            Failure: there is no entry, or the packages cannot be installed.
        """
        place = self.checkouts.place(deployment.label, deployment.hash)
        return await self.builds.make(deployment, place)

    def blueprint(self, deployment: Deployment, build: Build) -> Blueprint:
        """What the deployment's replicas are made from."""

        def log(number: int) -> Path:
            return self.logs.path(deployment.label, number)

        async def spec(process: str, number: int) -> ProcessSpec:
            return ProcessSpec(
                name=process,
                argv=build.argv,
                env=await self._variables(deployment, build, process),
                cwd=str(self.checkouts.place(deployment.label, deployment.hash)),
                log=str(log(number)),
            )

        async def ended(process: str) -> None:
            await self.platform.dismiss(deployment, process)

        return Blueprint(deployment.name, deployment.label, deployment.generation, log, spec, ended)

    async def _variables(
        self, deployment: Deployment, build: Build, process: str
    ) -> dict[str, str]:
        own = dict(deployment.options.env_vars)
        if "PYTHONPATH" in own and "PYTHONPATH" in build.env:
            own["PYTHONPATH"] += os.pathsep + build.env["PYTHONPATH"]
        return {
            **build.env,
            **own,
            **await self.platform.admit(deployment, process),
            "MICRO_HOME": str(self.home.path),
            "MICRO_SERVICE_NAME": deployment.name,
            "MICRO_SERVICE_VERSION": deployment.version,
            "MICRO_NAMESPACE": deployment.namespace,
            "MICRO_REPLICA": process,
        }
