"""The in-memory transport: calls inside one process, with the manners of the real ones."""

from __future__ import annotations

import asyncio
import itertools

from microcosmos.base import errors

from .interface import Call, Unreachable, late
from .server import Server, check_size


class MemoryNetwork:
    """Where servers and callers of one process meet.

    Calls are handled in a task of their own, with a metadata dict of their own, and are
    cancelled at their deadline: a test on this network sees what a test on NATS sees.
    """

    def __init__(self) -> None:
        self._servers: dict[str, list[Server]] = {}
        self._turn = itertools.count()

    def join(self, server: Server) -> None:
        """Let a server's services be called."""
        for name in server.services:
            self._servers.setdefault(name, []).append(server)

    def leave(self, server: Server) -> None:
        """Let a server's services be called no more."""
        for servers in self._servers.values():
            if server in servers:
                servers.remove(server)

    def reaches(self, service: str) -> bool:
        """Whether any server of this network answers for the service."""
        return bool(self._servers.get(service))

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        servers = self._servers.get(call.service)
        if not servers:
            raise Unreachable(call.service)
        check_size(call)
        server = servers[next(self._turn) % len(servers)]
        own = Call(call.service, call.endpoint, call.body, dict(call.metadata), call.timeout)
        task = asyncio.create_task(server.handle(own))
        try:
            return await asyncio.wait_for(task, call.timeout)
        except errors.Error:
            raise
        except TimeoutError:
            raise late(call) from None
