"""One connection of the lane, the part that both ends share: frames in and out, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from microcosmos.base import errors

from . import frames


class Line(asyncio.Protocol):
    """Frames over a Unix socket, written once per turn of the loop.

    Args:
        received: called with the kind, stream and payload of every whole message.
        lost: called once, when the line is gone.
    """

    def __init__(
        self,
        received: Callable[[Line, int, int, bytes], None],
        lost: Callable[[Line], None],
    ) -> None:
        self._received = received
        self._lost = lost
        self._reader = frames.Reader()
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._long: dict[int, deque[bytes]] = {}
        self._flushing = False
        self._paused = False
        self._closing = False
        self._transport: asyncio.Transport | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True
        if self._out or self._long or self._closing:
            # Said before the connection was there.
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, stream, payload in self._reader.feed(data):
                self._received(self, kind, stream, payload)
        except errors.BadRequest:
            self.abort()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def send(self, kind: int, stream: int, payload: bytes) -> None:
        """Queue one message; frames of one turn leave together, those of a stream in order."""
        if len(payload) <= frames.CHUNK and stream not in self._long:
            self._out.append(frames.pack(kind, stream, payload))
        else:
            self._long.setdefault(stream, deque()).extend(frames.chunks(kind, stream, payload))
        if not self._flushing:
            self._wake()

    def forget(self, stream: int) -> None:
        """The rest of what is coming on a stream is no longer wanted."""
        self._reader.forget(stream)

    def drop(self, stream: int) -> None:
        """Send no more of what waits on a stream: nobody wants the rest of it."""
        if (parts := self._long.pop(stream, None)) and frames.goes_on(parts[0]):
            # The other side has the beginning, so it must hear of the end.
            self._long[stream] = deque([frames.pack(frames.DATA, stream, b"")])

    def close(self) -> None:
        """Close once what is queued has left."""
        self._closing = True
        self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport:
            self._transport.abort()

    def _wake(self) -> None:
        self._flushing = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._out:
            transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
        # Long messages take turns, a chunk each, and only while the other side keeps up.
        if self._long and not self._paused:
            stream = next(iter(self._long))
            parts = self._long.pop(stream)
            transport.write(parts.popleft())
            if parts:
                self._long[stream] = parts
            if self._long and not self._flushing:
                self._wake()
        if self._closing and not self._long:
            transport.close()
