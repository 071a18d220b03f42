"""Room on a connection: how an answer is held up by a client that does not read.

Granian takes whatever it is given, so the sender has to look at the connection itself. Granian
writes as long as the socket takes something: one that is full means that it still holds bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from .backlog import Backlog
from .descriptors import Descriptors, Held, connection_of, writable

AHEAD = 256 * 1024
"""Bytes of an answer that are sent before anybody looks whether its client reads."""


class Room:
    """The room that one answer has.

    Args:
        scope: the request.
        descriptors: finds its connection.
    """

    def __init__(self, scope: Any, descriptors: Descriptors) -> None:
        self._scope = scope
        self._descriptors = descriptors
        self._given = 0
        self._number: int | None = None
        self._backlog: Backlog | None = None

    def give(self, size: int) -> None:
        """So many bytes were sent."""
        self._given += size
        if self._backlog is not None:
            self._backlog.give(size)

    async def wait(self) -> None:
        """Wait until the connection takes more.

        Raises:
            errors.RequestTimeout: an HTTP/2 client reads nothing for too long.
        """
        if self._given < AHEAD:
            return
        if self._number is None:
            self._number = self._descriptors.find(self._scope)
            if self._number is not None and connection_of(self._scope).http_version == "2":
                self._backlog = self._descriptors.share(self._number, self._scope)
        while self._number is not None and not writable(self._number):
            held = self._descriptors.copy(self._number, self._scope)
            if held is None:
                return
            await _until_writable(held)
        if self._backlog is not None:
            await self._backlog.room()

    def abort(self) -> None:
        """Close the connection, whatever is under way on it.

        That is how a client sees that an answer is not whole: Granian can only end it well.
        """
        if held := self._descriptors.hold(self._scope):
            with contextlib.suppress(OSError):
                held.socket.shutdown(socket.SHUT_RDWR)
            held.release()

    def leave(self) -> None:
        """The answer has ended."""
        if self._backlog is not None:
            self._backlog = None
            self._descriptors.leave(self._scope)


async def _until_writable(held: Held) -> None:
    # The copy is held no longer than needed: while it is open, so is the connection.
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(held.socket.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(held.socket.fileno())
        held.release()


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
