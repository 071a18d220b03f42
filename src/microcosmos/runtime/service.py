"""The runtime served over rpc: deployments, archives on their way in, and builds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Hosted

from .deployment import CreateRequest, Deployment, UpdateRequest
from .logs import LogsAnswer, LogsRequest
from .processes import MAX_WAIT, ProcessRuntime
from .uploads import Upload

NAME = "runtime"


class RuntimeService:
    """Serves a runtime.

    Args:
        runtime: the core's own.
    """

    def __init__(self, runtime: ProcessRuntime) -> None:
        self._runtime = runtime

    def hosted(self) -> Hosted:
        """The service ``runtime``."""
        functions: dict[str, Callable[..., Awaitable[Any]]] = {
            "Runtime.Create": self.create,
            "Runtime.Read": self.read,
            "Runtime.Update": self.update,
            "Runtime.Delete": self.delete,
            "Runtime.Wait": self.wait,
            "Runtime.Logs": self.logs,
            "Source.Upload": self.upload,
            "Build.Read": self.read_build,
        }
        endpoints = [
            endpoint(function, NAME, name=name, lenient=True)
            for name, function in functions.items()
        ]
        return Hosted(NAME, endpoints)

    async def create(self, request: CreateRequest) -> Deployment:
        """Deploy a service; the answer does not wait until it runs."""
        return await self._runtime.create(request)

    async def read(self, name: str = "") -> list[Deployment]:
        """Every deployment, or the one of a name."""
        return await self._runtime.read(name)

    async def update(self, request: UpdateRequest) -> Deployment:
        """Deploy a service again, from its source, another ref or a new upload."""
        return await self._runtime.update(request)

    async def delete(self, name: str) -> Deployment:
        """Stop a service and forget it."""
        return await self._runtime.delete(name)

    async def wait(self, name: str, revision: int = 0, timeout: float = MAX_WAIT) -> Deployment:
        """A deployment, as soon as it is newer than a revision."""
        return await self._runtime.wait(name, revision, timeout)

    async def logs(self, request: LogsRequest) -> LogsAnswer:
        """The last lines of a service's log, or those after a cursor."""
        return await self._runtime.logs(request)

    async def upload(
        self, id: str = "", offset: int = 0, data: bytes = b"", last: bool = False
    ) -> Upload:
        """Take a chunk of an archive; without an id it begins an upload."""
        uploads = self._runtime.uploads
        id = id or (await uploads.begin()).id
        upload = await uploads.append(id, offset, data)
        return await uploads.finish(id) if last else upload

    async def read_build(self, name: str, lines: int = 100) -> LogsAnswer:
        """What fetching and building a service wrote."""
        return await self._runtime.logs(LogsRequest(name=name, lines=lines, build=True))
