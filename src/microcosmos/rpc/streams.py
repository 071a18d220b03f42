"""The streams that the callers of one transport have open, by number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from microcosmos.base import errors

from .deadlines import Deadlines
from .interface import MAX_BODY, Call, late
from .stream import Channel, Pulse, Say


class Streams:
    """Opens streams, ends them at their deadlines, and beats for them.

    Args:
        pulse: beats for them.
        forgotten: called with the number of each that is over.
    """

    def __init__(self, pulse: Pulse, forgotten: Callable[[int], object] = lambda _: None) -> None:
        self._pulse = pulse
        self._open: dict[int, tuple[Call, Channel]] = {}
        self._deadlines: Deadlines[int] = Deadlines(self._expire)
        self._forgotten = forgotten
        self._closing: set[asyncio.Task[None]] = set()
        self._when_ended: Callable[[], None] | None = None
        self.get = self._open.get

    def begin(self, number: int, call: Call, say: Say, *, limit: int = MAX_BODY) -> Channel:
        """The caller's end of a stream of this number."""
        channel = Channel(call, say, done=lambda: self._forget(number, channel), limit=limit)
        self._open[number] = (call, channel)
        self._pulse.add(channel)
        if call.timeout is not None:
            self._deadlines.add(number, call.timeout)
        return channel

    def _forget(self, number: int, channel: Channel) -> None:
        del self._open[number]
        self._forgotten(number)
        self._pulse.discard(channel)
        self._deadlines.discard(number)
        if not self._open and self._when_ended:
            self._when_ended()

    def _expire(self, number: int) -> None:
        call, channel = self._open[number]
        task = asyncio.ensure_future(channel.close(late(call)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back once no stream is open, at once if none is."""
        if self._open:
            self._when_ended = callback
        else:
            callback()

    def fail_all(self, reason: str) -> None:
        """The line broke: nothing more comes on any of them."""
        for call, channel in list(self._open.values()):
            detail = f"{reason} while {call.service} {call.endpoint} streamed"
            channel.fail(errors.ConnectionLost(call.service, detail))

    def close(self) -> None:
        """End all of them, and the timers."""
        self.fail_all("the connection was closed")
        self._deadlines.close()
