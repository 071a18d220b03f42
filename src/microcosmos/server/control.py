"""The supervisor over rpc, on a socket of this host: how it is asked for processes.

The core asks for those of services; `micro restart` asks for new gateways.
"""

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


class Restart(msgspec.Struct):
    """What is to be replaced: ``gateway`` is all of them, ``gateway-1`` the first."""

    name: str


RESTART = "Supervisor.Restart"

Restarts = Callable[[str], Awaitable[dict[str, int]]]


@contextlib.asynccontextmanager
async def serve(
    supervisor: Spawner, path: Path, restart: Restarts | None = None
) -> AsyncIterator[None]:
    """Answer on a socket that only this user may open, until the block ends.

    Args:
        supervisor: starts and signals processes.
        path: the socket.
        restart: replaces processes of the platform by name, and gives the new ones.
    """
    server = Server()
    endpoints = _endpoints(supervisor)
    if restart is not None:
        endpoints.append(_restarting(restart))
    server.add(Hosted(SERVICE, endpoints))
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


def _restarting(restart: Restarts) -> Endpoint:
    async def answer(request: Restart) -> dict[str, int]:
        return await restart(request.name)

    return _endpoint("Restart", Restart, answer)


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
