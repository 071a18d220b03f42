"""Connections on which nobody asks for anything are closed, where Granian does not do it itself.

With HTTP/2 it waits without limit: to see which version a client speaks, and between requests.
A live client that holds its connections open could so keep everybody else out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import Any

from .handing import Note, begin_of

_TICKS = 4
"""How often the connections are looked at, within the time that they may be idle."""


class Idle:
    """An RSGI application that knows which connections are in use.

    Args:
        app: the application.
        port: where it is served.
    """

    def __init__(self, app: Any, port: int) -> None:
        self._begin = begin_of(app)
        self._port = port
        self._busy: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._idle: dict[str, float] = {}

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        """Begin one request."""
        client = scope.client
        self._busy[client] += 1
        try:
            coming = self._begin(scope, proto, _Use(self, client, note))
        except BaseException:
            self.leave(client)
            raise
        return None if coming is None else self._answered(coming, client)

    async def _answered(self, coming: Awaitable[None], client: str) -> None:
        try:
            await coming
        finally:
            self.leave(client)

    def leave(self, client: str) -> None:
        """A request of a client has been answered."""
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
        for client, connection in _connections(self._port):
            if client in self._busy or client in asked or _sending(connection):
                continue
            since = idle[client] = self._idle.get(client, now)
            if now - since >= limit and client not in self._busy:
                connection.shutdown(socket.SHUT_RDWR)
        self._idle = idle


class _Use:
    """The use of a connection by one request."""

    __slots__ = ("_client", "_idle", "_note", "trace")

    def __init__(self, idle: Idle, client: str, note: Note | None) -> None:
        self._idle = idle
        self._client = client
        self._note = note
        self.trace = note.trace if note is not None else ""

    def over(self) -> None:
        self._idle.leave(self._client)
        if self._note is not None:
            self._note.over()


def _connections(port: int) -> Iterator[tuple[str, socket.socket]]:
    """This process' connections to a port of its own, by their peers as RSGI names them.

    Each is a copy, good until the next one: its number cannot become another's meanwhile.
    """
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are numbers here
        connection = _socket(int(name))
        if connection is None:
            continue
        with contextlib.suppress(OSError):
            here, there = connection.getsockname(), connection.getpeername()
            if isinstance(here, tuple) and here[1] == port:
                yield _client(there), connection
        connection.close()


def _socket(descriptor: int) -> socket.socket | None:
    """A copy of a socket, or None if it is no socket, or has just been closed."""
    copy = -1
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
        return socket.socket(fileno=copy)
    except OSError:
        if copy >= 0:
            os.close(copy)
        return None


def _client(address: tuple[Any, ...]) -> str:
    if len(address) == 2:
        return f"{address[0]}:{address[1]}"
    scope = f"%{address[3]}" if address[3] else ""
    return f"[{address[0]}{scope}]:{address[1]}"


def _sending(connection: socket.socket) -> bool:
    """Whether the kernel still holds bytes for the client."""
    if sys.platform != "linux":
        return False
    import fcntl
    import termios

    held = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return bool(struct.unpack("i", held)[0])
