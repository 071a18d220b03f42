"""The runtime of one machine: every deployed service is a group of processes of this host."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.registry.interface import OwnRegistry
from microcosmos.store.interface import Store

from . import source as sources
from .build import Builds
from .checkout import Checkouts
from .children import Children, parse_name
from .deployed import Deployed
from .deployment import CreateRequest, Deployment, Deployments, UpdateRequest, check_options
from .environment import Environment
from .interface import Spawner
from .logs import Logs, LogsAnswer, LogsRequest
from .settings import Settings
from .uploads import Uploads
from .workshop import Workshop

logger = logging.getLogger(__name__)

MAX_WAIT = 25.0
"""The longest that one `wait` takes, in seconds."""

_ID = "runtime"


class ProcessRuntime:
    """Creates, updates, deletes and watches services while entered.

    Leaving does not stop them: the core may die and come back, and adopts what runs.

    Attributes:
        uploads: where archives of folders arrive before they are deployed.

    Args:
        home: the platform's home.
        store: where the records are kept, in the table ``runtime``.
        registry: tells which replicas answer.
        spawner: owns the processes.
        environment: what only the platform can give a replica: NATS_URL, NATS_CREDS.
        settings: limits and delays.
        clock: what delays are measured by.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        registry: OwnRegistry,
        spawner: Spawner,
        environment: Environment,
        *,
        settings: Settings = Settings(),  # noqa: B008 - frozen
        clock: Clock = SYSTEM,
    ) -> None:
        children = Children(spawner, clock)
        self._workshop = Workshop(
            home=home,
            records=Deployments(store),
            checkouts=Checkouts(home, children, settings.fetch),
            builds=Builds(home, children, settings.build),
            children=children,
            registry=registry,
            logs=Logs(home.logs, clock),
            environment=environment,
            settings=settings,
            clock=clock,
        )
        self.uploads = Uploads(home.server / "uploads", clock)
        self._deployed: dict[str, Deployed] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._tidy)
        await self._stack.enter_async_context(self._workshop.children)
        keeping = background(self._workshop.logs.keep(), "runtime logs")
        await self._stack.enter_async_context(keeping)
        await self._restore()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for deployed in self._deployed.values():
            await deployed.leave()
        await self._stack.aclose()

    async def create(self, request: CreateRequest) -> Deployment:
        """Deploy a service; it goes on after the answer, and `wait` tells how far it is.

        Raises:
            errors.BadRequest: a bad name, source, option or archive.
            errors.Conflict: the name is taken, and ``force`` was not asked for.
            errors.NotFound: there is no such upload.
        """
        source = sources.check(request.source)
        name = sources.name_of(source, request.name)
        options = check_options(request.options)
        self._check_free(name, force=request.force)
        target = Deployment(
            name=name,
            version=source.version,
            source=source,
            options=options,
            author=request.author,
            message=request.message,
        )
        target = await self._unpacked(target, request.upload)
        # Again: another may have taken the name while the archive was unpacked.
        self._check_free(name, force=request.force)
        return await self._begin(target)

    async def read(self, name: str = "") -> list[Deployment]:
        """Every deployment, sorted by name, or the one of a name.

        Raises:
            errors.NotFound: there is none of that name.
        """
        if name:
            return [self._known(name).record.masked()]
        return [self._deployed[key].record.masked() for key in sorted(self._deployed)]

    async def update(self, request: UpdateRequest) -> Deployment:
        """Deploy a service again: fetch anew, or take a new upload, and replace what runs.

        A source whose ref is the commit that runs is not fetched: its replicas are only replaced.
        Neither is a folder of which only other ``instances`` are asked for.

        Raises:
            errors.NotFound: nothing is deployed under the name, or there is no such upload.
            errors.BadRequest: a bad source, option or archive, or a folder without an upload.
        """
        record = self._known(request.name).record
        # What an unfinished update was about to change is not undone by this one.
        before = record.target or record
        source = request.source or before.source
        if request.ref:
            source = msgspec.structs.replace(source, ref=request.ref)
        source = sources.check(source)
        options = request.options or before.options
        if request.instances:
            options = msgspec.structs.replace(options, instances=request.instances)
        target = msgspec.structs.replace(
            before,
            version=source.version,
            source=source,
            options=check_options(options),
            author=request.author,
            message=request.message,
            target=None,
        )
        scaled = request.instances and not (request.source or request.ref or request.upload)
        only_scaled = scaled and source.kind == "folder" and before.hash
        if not only_scaled and (request.upload or not _same_commit(source, before)):
            target = msgspec.structs.replace(target, hash="", commit="")
            target = await self._unpacked(target, request.upload)
        return await self._begin(target)

    async def delete(self, name: str) -> Deployment:
        """Stop a service, in its own time up to a limit, and forget it.

        Raises:
            errors.NotFound: nothing is deployed under the name.
        """
        deployed = self._known(name)
        record = await deployed.end()
        if self._deployed.get(name) is deployed:
            del self._deployed[name]
        return record.masked()

    async def wait(self, name: str, revision: int = 0, timeout: float = MAX_WAIT) -> Deployment:
        """A deployment, as soon as its revision is above ``revision``, or when the time is over.

        Raises:
            errors.NotFound: nothing is deployed under the name (any more).
        """
        deployed = self._known(name)
        record = await deployed.wait(revision, min(timeout, MAX_WAIT))
        if deployed.ended:
            raise self._unknown(name)
        return record.masked()

    async def logs(self, request: LogsRequest) -> LogsAnswer:
        """Lines of a service's logs.

        Raises:
            errors.NotFound: nothing is deployed under the name.
            errors.BadRequest: a bad cursor or number of lines.
        """
        self._known(request.name)
        return await self._workshop.logs.read(request)

    def _tidy(self) -> None:
        self._workshop.home.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._workshop.checkouts.sweep()
        self.uploads.sweep()

    def _check_free(self, name: str, *, force: bool) -> None:
        if name in self._workshop.settings.reserved:
            raise errors.Conflict(_ID, f"{name} is the platform's own; choose another with --name")
        taken = self._deployed.get(name)
        if not taken or force:
            return
        record = taken.record
        # What failed and never went live is nobody's loss: the folder can be run again.
        if record.history or record.status != "error":
            raise errors.Conflict(
                _ID,
                f"{name} is owned by {record.owner}, deployed from {record.source}: "
                f"update it with micro update, replace it with --force, or choose another --name",
            )

    async def _unpacked(self, target: Deployment, upload: str) -> Deployment:
        if target.source.kind != "folder":
            return target
        if not upload:
            raise errors.BadRequest(
                _ID,
                f"{target.name} comes from a local folder, which has to be uploaded: "
                f"type micro update {target.source.location}",
            )
        archive = self.uploads.archive(upload)
        try:
            found = await self._workshop.checkouts.unpack(target.name, archive)
        finally:
            self.uploads.discard(upload)
        return msgspec.structs.replace(target, hash=found.hash)

    async def _begin(self, target: Deployment) -> Deployment:
        now = self._workshop.clock.time()
        target = msgspec.structs.replace(target, generation=secrets.token_hex(4), updated=now)
        deployed = self._deployed.get(target.name)
        if deployed:
            return (await deployed.begin(target)).masked()
        # On record before anything is done; live, once it is, it has the target's generation.
        fresh = msgspec.structs.replace(target, generation="", hash="")
        deployed = self._deployed[target.name] = Deployed(fresh, self._workshop)
        try:
            return (await deployed.begin(target)).masked()
        except errors.Error:
            self._deployed.pop(target.name, None)
            await deployed.leave()
            raise

    async def _restore(self) -> None:
        workshop = self._workshop
        records = await workshop.records.all()
        running = await workshop.children.running()
        mine: dict[str, dict[int, str]] = {record.name: {} for record in records}
        generations = {record.name: record.generation for record in records}
        for process in running:
            if parsed := parse_name(process):
                name, generation, role = parsed
                if generations.get(name) == generation and role.isdecimal():
                    mine[name][int(role)] = process
                else:
                    logger.info("stopping %s, which nothing needs any more", process)
                    await workshop.children.stop(process, workshop.settings.drain)
        used = {record.build for record in records}
        await asyncio.to_thread(workshop.builds.keep_only, used)
        for record in records:
            deployed = self._deployed[record.name] = Deployed(record, workshop)
            if record.status == "stopping":
                await self.delete(record.name)
            else:
                deployed.restore(mine[record.name])

    def _known(self, name: str) -> Deployed:
        deployed = self._deployed.get(name)
        if deployed is None:
            raise self._unknown(name)
        return deployed

    def _unknown(self, name: str) -> errors.NotFound:
        return errors.NotFound(
            _ID, f"nothing is deployed as {name[:100]}; micro status lists what is"
        )


def _same_commit(source: sources.Source, before: Deployment) -> bool:
    """Whether fetching a source would give what is there already."""
    same = (source.kind, source.location, source.path) == (
        before.source.kind,
        before.source.location,
        before.source.path,
    )
    fixed = source.names_a_commit and before.commit.startswith(source.ref)
    return same and fixed and bool(before.hash)
