"""The in-memory transport: calls inside one process, with the manners of the real ones."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from microcosmos.base import errors

from .interface import Call, Stream, Unreachable, check_size, late
from .server import Server
from .stream import Channel, Pulse, answer
from .streams import Streams


class MemoryNetwork:
    """Where servers and callers of one process meet.

    Calls are handled in a task of their own, with a metadata dict of their own, and are
    cancelled at their deadline: a test on this network sees what a test on NATS sees.
    """

    def __init__(self) -> None:
        self._servers: dict[str, list[Server]] = {}
        self._turns: dict[str, int] = {}
        self._calls: dict[asyncio.Task[Any], Server] = {}
        self._numbers = itertools.count()
        self._pulse = Pulse()
        self._streams: Streams | None = None

    def join(self, server: Server) -> None:
        """Let a server's services be called."""
        for name in server.services:
            self._servers.setdefault(name, []).append(server)

    def leave(self, server: Server) -> None:
        """Let a server's services be called no more."""
        for servers in self._servers.values():
            if server in servers:
                servers.remove(server)

    def cut(self, server: Server) -> None:
        """Lose a server as if its process had died: its calls fail with `ConnectionLost`."""
        self.leave(server)
        for task, handling in self._calls.items():
            if handling is server:
                task.cancel()

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        server = self._turn(call)
        own = Call(call.service, call.endpoint, call.body, dict(call.metadata), call.timeout)
        task = asyncio.create_task(server.handle(own))
        self._calls[task] = server
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait((task,), timeout=call.timeout)
        finally:
            # Nothing, if it has ended.
            task.cancel()
        if not task.done():
            raise late(call)
        if task.cancelled():
            raise errors.ConnectionLost(
                call.service, f"the server was lost before {call.service} {call.endpoint} answered"
            )
        return task.result()

    async def open(self, call: Call) -> Stream:
        """Open a stream; see `interface.Transport`."""
        server = self._turn(call)
        own = Call(call.service, call.endpoint, call.body, dict(call.metadata), call.timeout)

        async def to_callee(kind: int, payload: bytes) -> None:
            callee.received(kind, payload)

        async def to_caller(kind: int, payload: bytes) -> None:
            caller.received(kind, payload)

        if self._streams is None:
            self._streams = Streams(self._pulse)
        caller = self._streams.begin(next(self._numbers), call, to_callee)
        callee = Channel(own, to_caller, serving=True, done=lambda: stop())
        self._pulse.add(callee)
        task = asyncio.create_task(answer(server, own, callee))
        self._calls[task] = server
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: self._pulse.discard(callee))
        stop = task.cancel
        return caller

    def _turn(self, call: Call) -> Server:
        """The server whose turn it is to answer a call."""
        servers = self._servers.get(call.service)
        if not servers:
            raise Unreachable(call.service)
        check_size(call)
        turn = self._turns[call.service] = self._turns.get(call.service, -1) + 1
        return servers[turn % len(servers)]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._calls[task]
        if not task.cancelled():
            task.exception()  # seen, though its caller may have gone
