"""Connections on which nobody asks for anything are closed, where Granian does not do it itself.

With HTTP/2 it waits without limit: to see which version a client speaks, and between requests.
A live client that holds its connections open could so keep everybody else out.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

from .connections import connections

_TICKS = 4
"""How often the connections are looked at, within the time that they may be idle."""


class Idle:
    """An RSGI application that knows which connections are in use.

    Args:
        app: the application.
        port: where it is served.
    """

    def __init__(self, app: Any, port: int) -> None:
        self._answer = app.__rsgi__
        self._port = port
        self._busy: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._idle: dict[str, float] = {}

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        client = scope.client
        self._busy[client] += 1
        try:
            await self._answer(scope, proto)
        finally:
            self._asked.add(client)
            if self._busy[client] == 1:
                del self._busy[client]
            else:
                self._busy[client] -= 1

    async def close_idle(self, limit: float) -> None:
        """Close what has been idle for ``limit`` seconds, or up to a quarter more, for ever."""
        while True:
            await asyncio.sleep(limit / _TICKS)
            # In a thread: a few system calls for each of thousands of connections.
            await asyncio.to_thread(self._look, limit)

    def _look(self, limit: float) -> None:
        asked, self._asked = self._asked, set()
        now = time.monotonic()
        idle: dict[str, float] = {}
        for client, connection in connections(self._port):
            if client in self._busy or client in asked or _sending(connection):
                continue
            since = idle[client] = self._idle.get(client, now)
            if now - since >= limit and client not in self._busy:
                connection.shutdown(socket.SHUT_RDWR)
        self._idle = idle


def _sending(connection: socket.socket) -> bool:
    """Whether the kernel still holds bytes for the client."""
    if sys.platform != "linux":
        return False
    import fcntl
    import termios

    held = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return bool(struct.unpack("i", held)[0])
