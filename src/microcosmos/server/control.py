"""The supervisor over rpc, on a socket of this host: how the core asks for processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from microcosmos.base import codec
from microcosmos.rpc import Client, Endpoint, Hosted, Server, lane
from microcosmos.runtime.interface import Exit, ProcessSpec, Spawner

SERVICE = "supervisor"

T = TypeVar("T")

# Longer than the supervisor waits for an exit.
_TIMEOUT = 20.0


class _Signal(msgspec.Struct):
    name: str
    signal: int


class _After(msgspec.Struct):
    after: int


class _Nothing(msgspec.Struct):
    pass


@contextlib.asynccontextmanager
async def serve(supervisor: Spawner, path: Path) -> AsyncIterator[None]:
    """Answer the core on a socket that only this user may open, until the block ends."""
    server = Server()
    server.add(Hosted(SERVICE, _endpoints(supervisor)))
    # The core has ended by then; a poll for exits that is still open need not run its course.
    async with lane.listen(path, server, drain=0.1):
        yield


def _endpoints(supervisor: Spawner) -> list[Endpoint]:
    async def signal(request: _Signal) -> None:
        await supervisor.signal(request.name, request.signal)

    async def running(_: _Nothing) -> dict[str, int]:
        return await supervisor.running()

    async def exits(request: _After) -> list[Exit]:
        return await supervisor.exits(request.after)

    return [
        _endpoint("Spawn", ProcessSpec, supervisor.spawn),
        _endpoint("Signal", _Signal, signal),
        _endpoint("Running", _Nothing, running),
        _endpoint("Exits", _After, exits),
    ]


def _endpoint(method: str, request: type, function: Callable[[Any], Awaitable[Any]]) -> Endpoint:
    async def answer(body: bytes) -> bytes:
        return codec.encode(await function(codec.decode(body, request, id=SERVICE)))

    return Endpoint(_name(method), answer)


def _name(method: str) -> str:
    return f"Supervisor.{method}"


class SupervisorClient:
    """The `Spawner` of the core.

    Args:
        client: reaches the supervisor's socket.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def spawn(self, spec: ProcessSpec) -> int:
        """See `Spawner.spawn`."""
        return await self._ask("Spawn", spec, int)

    async def signal(self, name: str, signal: int) -> None:
        """See `Spawner.signal`."""
        await self._ask("Signal", _Signal(name, signal), type(None))

    async def running(self) -> dict[str, int]:
        """See `Spawner.running`."""
        return await self._ask("Running", _Nothing(), dict[str, int])

    async def exits(self, after: int) -> list[Exit]:
        """See `Spawner.exits`."""
        return await self._ask("Exits", _After(after), list[Exit])

    async def _ask(self, method: str, request: msgspec.Struct, answer: type[T]) -> T:
        # Not tried again: a process must not be started twice, and the core knows what to do.
        body = await self._client.call(
            SERVICE, _name(method), codec.encode(request), timeout=_TIMEOUT, retry=False
        )
        answered: T = codec.decode(body, answer, id=SERVICE)
        return answered


class OneSocket:
    """The `Resolver` of a client that knows one service on one socket."""

    def __init__(self, service: str, path: Path) -> None:
        self._service = service
        self._path = str(path)

    def lanes(self, service: str) -> list[str]:
        """The socket, if it is that service's."""
        return [self._path] if service == self._service else []

    def subject(self, service: str, endpoint: str) -> str:
        """Nothing here goes by NATS."""
        return ""

    def knows(self, service: str) -> bool:
        """Whether it is that service."""
        return service == self._service

    def retries(self, service: str, endpoint: str) -> bool:
        """A process must not be started twice."""
        return False
