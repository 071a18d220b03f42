"""Bodies on a line, in either direction: parts, with credit, and one end.

A sender may be `wire.WINDOW` bytes ahead of its reader, so that a slow reader holds its sender
up, and nobody's memory. Only bytes count.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from microcosmos.base import errors
from microcosmos.rpc.frames import CHUNK, END, GRANT, ITEM
from microcosmos.rpc.interface import MAX_BODY

from .wire import WINDOW

Say = Callable[[int, bytes], None]
"""Sends one frame's kind and payload on the stream of a body."""

FLOOD = WINDOW + MAX_BODY
"""Bytes that come ahead of their reader before the sender is taken for broken."""


class Inflow:
    """A body that comes; iterating gives its parts, and takes credit back to its sender.

    Args:
        say: sends to the other end.
        over: called once, when the body has ended, whole or not.
    """

    def __init__(self, say: Say, over: Callable[[], None]) -> None:
        self._say = say
        self._over = over
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._owed = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._failure: Exception | None = None

    def take(self, part: bytes) -> bool:
        """Take in a part; False if its sender has sent more than it may."""
        if not self._ended:
            self._parts.append(part)
            self._held += len(part)
            self._wake()
        return self._held <= FLOOD

    def end(self, failure: Exception | None = None) -> None:
        """No more comes, because that was all or because of a failure."""
        if not self._ended:
            self._ended = True
            self._failure = failure
            self._wake()
            self._over()

    def cancel(self) -> None:
        """Nobody reads any more; the other end is told by whoever calls this."""
        self._parts.clear()
        self.end(errors.ClientClosed("functions", "nobody reads this body any more"))

    def __aiter__(self) -> Inflow:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        part = self._parts.popleft()
        self._held -= len(part)
        self._owed += len(part)
        if self._owed >= WINDOW // 2 and not self._ended:
            owed, self._owed = self._owed, 0
            self._say(GRANT, b"%d" % owed)
        return part

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Outflow:
    """A body that goes.

    Args:
        say: sends to the other end.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._credit = WINDOW
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def send(self, data: bytes) -> None:
        """Send a part; waits while the other end is too far behind.

        Nothing is sent once nobody wants any more of it.
        """
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK] if len(data) > CHUNK else data
            while self._credit <= 0 and not self._closed:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if self._closed:
                return
            self._credit -= len(part)
            self._say(ITEM, part)

    def push(self, data: bytes) -> None:
        """Send a part that was sent before, and so is within the window."""
        for at in range(0, len(data), CHUNK):
            self._credit -= len(data[at : at + CHUNK])
            self._say(ITEM, data[at : at + CHUNK])

    def end(self) -> None:
        """That was all."""
        if not self._closed:
            self.close()
            self._say(END, b"")

    def grant(self, payload: bytes) -> None:
        """The other end has taken so many bytes."""
        self._credit += int(payload) if payload.isdigit() else 0
        if self._credit > 0:
            self._wake()

    def close(self) -> None:
        """Nobody wants any more of it."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
