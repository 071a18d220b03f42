"""The runtime served over rpc: deployments, archives on their way in, and builds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from microcosmos.auth.interface import Account
from microcosmos.base import context
from microcosmos.base.audit import Audit, unaudited
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Hosted

from .deployment import Caller, CreateRequest, Deployment, UpdateRequest
from .logs import LogsAnswer, LogsRequest
from .processes import MAX_WAIT, ProcessRuntime
from .uploads import Upload

NAME = "runtime"


class RuntimeService:
    """Serves a runtime; each call is about the namespace that it is made in.

    Args:
        runtime: the core's own.
        audit: notes changes of deployments.
    """

    def __init__(self, runtime: ProcessRuntime, audit: Audit = unaudited) -> None:
        self._runtime = runtime
        self._audit = audit

    def hosted(self) -> Hosted:
        """The service ``runtime``."""
        functions: dict[str, tuple[Callable[..., Awaitable[Any]], Access]] = {
            "Runtime.Create": (self.create, "admin"),
            "Runtime.Read": (self.read, "account"),
            "Runtime.Update": (self.update, "admin"),
            "Runtime.Delete": (self.delete, "admin"),
            "Runtime.Wait": (self.wait, "account"),
            "Runtime.Logs": (self.logs, "admin"),
            "Source.Upload": (self.upload, "admin"),
            "Build.Read": (self.read_build, "admin"),
        }
        endpoints = [
            endpoint(function, NAME, name=name, lenient=True, access=access)
            for name, (function, access) in functions.items()
        ]
        return Hosted(NAME, endpoints)

    async def create(self, request: CreateRequest) -> Deployment:
        """Deploy a service; the answer does not wait until it runs."""
        deployment = await self._runtime.create(request, _caller())
        await self._audit("deployment created", deployment.name, str(deployment.source))
        return deployment

    async def read(self, name: str = "") -> list[Deployment]:
        """Every deployment, or the one of a name."""
        return await self._runtime.read(name, _namespace())

    async def update(self, request: UpdateRequest) -> Deployment:
        """Deploy a service again, from its source, another ref or a new upload."""
        deployment = await self._runtime.update(request, _caller())
        await self._audit("deployment updated", deployment.name, str(deployment.source))
        return deployment

    async def delete(self, name: str) -> Deployment:
        """Stop a service and forget it."""
        deployment = await self._runtime.delete(name, _namespace())
        await self._audit("deployment deleted", name, "")
        return deployment

    async def wait(self, name: str, revision: int = 0, timeout: float = MAX_WAIT) -> Deployment:
        """A deployment, as soon as it is newer than a revision."""
        return await self._runtime.wait(name, revision, timeout, _namespace())

    async def logs(self, request: LogsRequest) -> LogsAnswer:
        """The last lines of a service's log, or those after a cursor."""
        return await self._runtime.logs(request, _namespace())

    async def upload(
        self, id: str = "", offset: int = 0, data: bytes = b"", last: bool = False
    ) -> Upload:
        """Take a chunk of an archive; without an id it begins an upload."""
        uploads, namespace = self._runtime.uploads, _namespace()
        id = id or (await uploads.begin(namespace)).id
        upload = await uploads.append(id, offset, data, namespace)
        return await uploads.finish(id, namespace) if last else upload

    async def read_build(self, name: str, lines: int = 100) -> LogsAnswer:
        """What fetching and building a service wrote."""
        request = LogsRequest(name=name, lines=lines, build=True)
        return await self._runtime.logs(request, _namespace())


def _namespace() -> str:
    return context.current().namespace


def _caller() -> Caller:
    """Who makes the call that is being handled; without accounts it is anybody."""
    here = context.current()
    if not isinstance(here.account, Account):
        return Caller(namespace=here.namespace, group=here.namespace)
    return Caller(namespace=here.namespace, id=here.account.id, group=here.account.namespace)
