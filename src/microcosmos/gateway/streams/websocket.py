"""A WebSocket: messages both ways, pings, limits, and a reason when it is closed.

Granian shakes hands and then lends us the connection; frames are the business of `websockets`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Side
from websockets.protocol import Protocol as Frames

from microcosmos.rpc import MAX_BODY
from microcosmos.rpc.http import BINARY, TEXT

from .beats import Beats
from .descriptors import Held

LOST_AFTER = 4
"""Pings in a row that nothing was heard after, until a client is taken for lost."""

AHEAD = 64 * 1024
"""Bytes of messages that are read ahead of whom they are for."""

BEHIND = 1024 * 1024
"""Bytes that may wait for a client; from there on nothing more is read of it."""

DISCARDED = 16 * 1024 * 1024
"""Bytes that are read of a client after the end, so that it gets to see why."""

CLOSING = 5.0
"""Seconds that a client may take to close its side."""

_WEIGHT = 64
_REASON = 123

# It says of each connection that it was closed.
_log = logging.getLogger("microcosmos.gateway.websocket")
_log.setLevel(logging.WARNING)


class WebSocket(Protocol):
    """A WebSocket that was let in."""

    async def receive(self) -> bytes | None:
        """The next message, of text or bytes; None once the client has closed, or is gone."""

    async def send(self, message: bytes) -> None:
        """Send a message of text; waits while the client does not read. Lost if it is gone."""

    async def close(self, code: int, reason: str = "") -> None:
        """Close it, unless that has been done."""

    def release(self) -> None:
        """Give the connection back; it is closed if it was not."""


class Lent(asyncio.Protocol):
    """A WebSocket on a connection that Granian lends; see `WebSocket`.

    Args:
        beats: the pings.
        limit: the longest message, in bytes.
        marked: whether messages have a byte before them that says what they are; see `rpc.http`.
    """

    def __init__(self, beats: Beats, limit: int = MAX_BODY, *, marked: bool = False) -> None:
        self._marked = marked
        self._frames = Frames(Side.SERVER, state=OPEN, max_size=limit, logger=_log)
        self._beats = beats
        self._held: Held | None = None
        self._transport: asyncio.Transport | None = None
        self._unread: deque[bytes] = deque()
        self._ahead = 0
        self._part: bytearray | None = None
        self._is_text = False
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = self._discarded = 0
        self._reading = True
        self._failed = False
        self._lost = False
        self._silences = 0

    async def start(self, held: Held) -> None:
        """Take a connection over."""
        self._held = held
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, sock=held.socket)
        self._beats.add(self)

    async def receive(self) -> bytes | None:
        """See `WebSocket`."""
        while not self._unread:
            if self._over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message = self._unread.popleft()
        self._ahead -= len(message) + _WEIGHT
        self._govern()
        return message

    async def send(self, message: bytes) -> None:
        """See `WebSocket`."""
        if not self._over:
            if not self._marked:
                self._frames.send_text(message)
            elif message[:1] == TEXT:
                self._frames.send_text(message[1:])
            else:
                self._frames.send_binary(message[1:])
            self._write()
        while self._room is not None and not self._over:
            await self._room

    async def close(self, code: int, reason: str = "") -> None:
        """See `WebSocket`."""
        if not self._over:
            self._frames.send_close(code, _shortened(reason))
            self._write()
        self._unread.clear()
        self._ahead = 0
        self._govern()
        if not self._lost:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    def release(self) -> None:
        """See `WebSocket`."""
        self._beats.discard(self)
        self._abort()
        if self._held is not None:
            self._held.release()

    def beat(self) -> None:
        """Ping the client, or give it up."""
        # Who is held up is not heard either, and is no less there for that.
        self._silences += self._reading
        if self._silences > LOST_AFTER:
            self._abort()
        elif not self._over:
            self._frames.send_ping(b"")
            self._write()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._silences = 0
        if self._over:
            self._discarded += len(data)
            if self._discarded > DISCARDED:
                self._abort()
                return
        self._frames.receive_data(data)
        for frame in self._frames.events_received():
            if not self._failed:
                self._take(cast(Frame, frame))
        self._write()
        self._govern()
        if self._over:
            self._wake()

    def eof_received(self) -> None:
        self._frames.receive_eof()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        self.resume_writing()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
        self._govern()

    @property
    def _over(self) -> bool:
        """Whether nothing more is to be said; what was received before is still there."""
        return self._lost or self._frames.state is not OPEN

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._add(bytes(frame.data))
            else:
                self._part = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._part is not None:
            self._part += frame.data
            if frame.fin:
                whole, self._part = bytes(self._part), None
                self._add(whole)

    def _add(self, message: bytes) -> None:
        if self._is_text:
            try:
                message.decode()
            except UnicodeDecodeError:
                self._failed = True
                if not self._over:
                    self._frames.fail(1007, "the text is not valid UTF-8")
                return
        if self._marked:
            message = (TEXT if self._is_text else BINARY) + message
        self._unread.append(message)
        self._ahead += len(message) + _WEIGHT
        self._wake()

    def _write(self) -> None:
        assert self._transport is not None
        written = self._frames.data_to_send()
        if written and not self._lost:
            self._transport.write(b"".join(written))
            if not written[-1]:
                # What the client still sends is read and thrown away: a connection that is closed
                # on it would be reset, and the reason lost on its way.
                self._transport.write_eof()
        if self._frames.state is not OPEN and self._timer is None:
            self._wait_for_close()

    def _govern(self) -> None:
        """Read, or read no more for now."""
        if self._transport is None or self._lost:
            return
        behind = self._transport.get_write_buffer_size()
        wanted = self._ahead < AHEAD and behind < BEHIND
        if wanted and not self._reading:
            self._transport.resume_reading()
        elif self._reading and not wanted:
            self._transport.pause_reading()
        self._reading = wanted

    def _wait_for_close(self) -> None:
        self._unsent = self._still_unsent()
        self._timer = asyncio.get_running_loop().call_later(CLOSING, self._end)

    def _end(self) -> None:
        """The client has had its time to close; one that still reads what came before has more."""
        if self._still_unsent() < self._unsent:
            self._wait_for_close()
        else:
            self._abort()

    def _still_unsent(self) -> int:
        if self._transport is None or self._held is None or self._lost:
            return 0
        return self._held.unsent() + self._transport.get_write_buffer_size()

    def _abort(self) -> None:
        if self._transport is not None and not self._lost:
            self._transport.abort()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def _shortened(reason: str) -> str:
    """A reason as a close frame can carry it."""
    return reason.encode()[:_REASON].decode(errors="ignore")
