"""Streams: messages in both directions, with credit, heartbeats and one end.

A `Channel` is one end of a stream. Both ends are one, on every transport; the transports only
carry what a channel says. A sender may be `WINDOW` bytes ahead of its reader, so a slow reader
holds its sender up, not the memory of anybody; a message that is longer than what is left goes
out as long as anything is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from microcosmos.base import errors

from .credit import BEATS, LOST_AFTER, WEIGHT, WINDOW
from .frames import BEAT, CANCEL, END, ERROR, GRANT, ITEM
from .interface import MAX_BODY, Call
from .server import Server

_FLOOD = WINDOW + MAX_BODY + WEIGHT

Say = Callable[[int, bytes], Awaitable[None]]
"""Carries one frame's kind and payload to the other end."""


class Channel:
    """One end of a stream; see `interface.Stream`.

    Args:
        call: what opened the stream.
        say: carries what this end says.
        serving: whether this is the callee's end. The caller's end of messages leaves the
            callee's own open; the callee's is the end of the stream.
        done: called once, when the stream is over for this end.
        limit: the longest message, in bytes.

    Attributes:
        over: whether nothing can come or go any more.
    """

    def __init__(
        self,
        call: Call,
        say: Say,
        *,
        serving: bool = False,
        done: Callable[[], object] = lambda: None,
        limit: int = MAX_BODY,
    ) -> None:
        self._call = call
        self._say = say
        self._serving = serving
        self._done = done
        self._limit = limit
        self._unread: deque[bytes] = deque()
        self._held = 0
        self._owed = 0
        self._credit = WINDOW
        self._sent = self._received = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: Exception | None = None
        self._reading = False
        self._no_more = False  # comes from the other end
        self._ended = False  # this end has said so
        self._said = self._heard = True
        self._silences = 0
        self.over = False

    async def send(self, message: bytes) -> None:
        """See `interface.Stream`."""
        size = len(message)
        if size > self._limit:
            detail = f"a message of the stream has {size} bytes; the limit is {self._limit}"
            raise errors.TooLarge(self._call.service, detail)
        while self._credit <= 0 and not self.over:
            self._room.clear()
            await self._room.wait()
        if self._ended or self.over:
            raise self._closed()
        self._credit -= size + WEIGHT
        self._sent += 1
        self._said = True
        await self._say(ITEM, message)

    async def end(self) -> None:
        """See `interface.Stream`."""
        if not self._ended and not self.over:
            self._ended = self._said = True
            await self._say(END, b"%d" % self._sent)

    async def refuse(self, error: errors.Error) -> None:
        """End the stream by an error."""
        if not self._ended and self._failure is None:
            self._ended = True
            await self._say(ERROR, error.to_wire())

    async def explain(self) -> None:
        """Tell the other end why this one ends the stream, unless that was its own wish."""
        failure = self._failure
        if failure is None:
            detail = f"a replica stopped while {self._call.service} {self._call.endpoint} streamed"
            failure = errors.ConnectionLost(self._call.service, detail)
        if isinstance(failure, errors.Error) and not isinstance(failure, errors.ClientClosed):
            self._ended = True
            await self._say(ERROR, failure.to_wire())

    async def close(self, reason: errors.Error | None = None) -> None:
        """See `interface.Stream`; who still reads or sends is told the reason."""
        if self.over:
            return
        closed = errors.ClientClosed(self._call.service, "the stream was closed by its caller")
        self.fail(reason or closed)
        await self._say(CANCEL, b"")

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        while not self._unread:
            if self._failure is not None:
                # Kept without the frames that it was raised in before: they may hold much.
                raise self._failure.with_traceback(None)
            if self._no_more:
                raise StopAsyncIteration
            self._news.clear()
            self._reading = True
            await self._news.wait()
            self._reading = False
        message = self._unread.popleft()
        weight = len(message) + WEIGHT
        self._held -= weight
        self._owed += weight
        if self._owed >= WINDOW // 2 and not self._no_more:
            owed, self._owed = self._owed, 0
            self._said = True
            await self._say(GRANT, b"%d" % owed)
        return message

    def received(self, kind: int, payload: bytes) -> None:
        """Take in what the other end has said."""
        if kind == ITEM:
            self.take(payload)
            return
        self._heard = True
        if self.over:
            return
        if kind == GRANT:
            self._credit += _number(payload)
            if self._credit > 0:
                self._room.set()
        elif kind == END:
            self._count(payload)
            self._finish()
        elif kind == ERROR:
            self.fail(errors.from_wire(payload))
        elif kind == CANCEL:
            self.fail(errors.ClientClosed(self._call.service, "the caller no longer waits"))
        elif kind == BEAT:
            self._count(payload)

    def take(self, message: bytes) -> None:
        """Take in a message of the other end."""
        self._heard = True
        if self.over:
            return
        self._received += 1
        self._held += len(message) + WEIGHT
        if self._no_more:
            self._break("a message came after the end of the stream")
        elif self._held > _FLOOD:
            self._break(f"more than {WINDOW} bytes came ahead of their reader")
        else:
            self._unread.append(message)
            if self._reading:
                self._news.set()

    def fail(self, failure: Exception) -> None:
        """The stream is over, for a reason that whoever reads or sends is told."""
        if not self.over:
            self.over = True
            self._failure = failure
            self._wake()
            self._done()

    def beat(self) -> Awaitable[None] | None:
        """One silence has passed: what is to be said, if anything, to show that this end lives."""
        self._silences = 0 if self._heard else self._silences + 1
        self._heard = False
        if self._silences >= LOST_AFTER:
            detail = f"nothing was heard of the other end for {LOST_AFTER * BEATS:g} s"
            self.fail(errors.ConnectionLost(self._call.service, detail))
            return None
        said, self._said = self._said, False
        return None if said or self.over else self._say(BEAT, b"%d" % self._sent)

    def _count(self, payload: bytes) -> None:
        """Compare with what the other end has sent: NATS may drop what it cannot deliver."""
        if payload and _number(payload) != self._received:
            lost = f"of {_number(payload)} messages of the stream {self._received} have arrived"
            self.fail(errors.ConnectionLost(self._call.service, lost))

    def _finish(self) -> None:
        if not self.over:
            self._no_more = True
            self.over = not self._serving
            self._wake()
            if self.over:
                self._done()

    def _break(self, detail: str) -> None:
        self._unread.clear()
        self.fail(errors.BadRequest(self._call.service, detail))

    def _wake(self) -> None:
        self._news.set()
        self._room.set()

    def _closed(self) -> Exception:
        """Why nothing can be sent."""
        ended = errors.Conflict(self._call.service, "the stream has ended; nothing can be sent")
        return ended if self._failure is None else self._failure.with_traceback(None)


def _number(payload: bytes) -> int:
    try:
        return int(payload)
    except ValueError:
        return 0


async def answer(server: Server, call: Call, channel: Channel) -> None:
    """Let a server answer a stream until one of both ends it."""
    try:
        await server.stream(call, channel, channel.send)
        await channel.end()
    except errors.Error as error:
        await channel.refuse(error)
    except asyncio.CancelledError:
        # Its caller no longer waits, or the server stops, or the other end broke the rules.
        await channel.explain()


class Pulse:
    """Beats for the streams of one transport, with one timer for all.

    Args:
        every: seconds between beats.
    """

    def __init__(self, every: float = BEATS) -> None:
        self._every = every
        self._channels: set[Channel] = set()
        self._saying: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, channel: Channel) -> None:
        """Beat for a stream."""
        self._channels.add(channel)
        if self._timer is None:
            self._wait()

    def discard(self, channel: Channel) -> None:
        """The stream is over."""
        self._channels.discard(channel)

    def close(self) -> None:
        """Beat no more."""
        self._channels.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._beat)

    def _beat(self) -> None:
        self._timer = None
        for channel in list(self._channels):
            if saying := channel.beat():
                task = asyncio.ensure_future(saying)
                self._saying.add(task)
                task.add_done_callback(self._saying.discard)
        if self._channels:
            self._wait()


async def nothing() -> AsyncIterator[bytes]:
    """The messages of a caller that streams none."""
    none: tuple[bytes, ...] = ()
    for message in none:
        yield message
