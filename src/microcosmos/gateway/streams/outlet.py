"""An answer that goes out as it comes, as fast as its client reads."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from microcosmos.base import errors

from .descriptors import Descriptors
from .room import Room

BATCH = 64 * 1024
"""Bytes of an answer that are gathered at most before they are sent; what is ready goes at once."""

Header = tuple[str, str]


class Form(Protocol):
    """How messages, an error and the end look."""

    kind: str
    opening: bytes
    beat: bytes
    ending: bytes

    @staticmethod
    def message(message: bytes) -> bytes:
        """A message of JSON."""

    @staticmethod
    def failure(error: errors.Error) -> bytes:
        """The error that ends the answer."""


class Outlet:
    """One answer.

    Messages that come together go out together: what is sent while nothing else runs is one write.

    Args:
        scope: the request.
        proto: its exchange.
        headers: of the answer.
        form: how the answer looks.
        descriptors: finds the connection.

    Attributes:
        opened: whether the head of the answer is out, so that its status stands.
    """

    def __init__(
        self, scope: Any, proto: Any, headers: list[Header], form: Form, descriptors: Descriptors
    ) -> None:
        self._proto = proto
        self._headers = headers
        self._form = form
        self._room = Room(scope, descriptors)
        self._loop = asyncio.get_running_loop()
        self._out: Any = None
        self._parts: list[bytes] = []
        self._waiting = 0
        self._silent = True
        self.opened = False

    def open(self) -> None:
        """Send the head, if it is not out yet."""
        if not self.opened:
            self.opened = True
            self._out = self._proto.response_stream(200, self._headers)
            if self._form.opening:
                self._add(self._form.opening)

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the client does not read.

        Raises:
            RSGIProtocolClosed: the client has gone.
        """
        self.open()
        self._add(self._form.message(message))
        if self._waiting >= BATCH:
            await self._sent()
            await self._room.wait()

    async def end(self) -> None:
        """Send the end.

        Raises:
            RSGIProtocolClosed: the client has gone.
        """
        self.open()
        if self._form.ending:
            self._add(self._form.ending)
        await self._sent()

    def fail(self, error: errors.Error) -> None:
        """Send the error that ends it all."""
        self.open()
        self._add(self._form.failure(error))

    def close(self) -> None:
        """Nothing more comes: the answer ends once Granian's end of it is let go."""
        if self.opened:
            self._flush()
        self.opened = False
        self._out = None
        self._room.leave()

    def beat(self) -> None:
        """Say something to a client that has heard nothing since the last beat."""
        if self._silent and self.opened and self._form.beat:
            self._add(self._form.beat)
        self._silent = True

    def _add(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._waiting += len(data)
        self._silent = False

    def _flush(self) -> Any:
        """Send what waits; gives what tells, once awaited, whether the client is still there."""
        if not self._parts or self._out is None:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        self._room.give(len(data))
        return self._out.send_bytes(data)

    async def _sent(self) -> None:
        if (sending := self._flush()) is not None:
            await sending
