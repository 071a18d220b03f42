"""What a worker asks of the host of functions, and what it tells it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import time
from collections import deque
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.bodies import Inflow
from microcosmos.functions.interface import Counts
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

_log = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between two notes, at least."""

LINES = 10_000
"""Lines of logs that are kept while there is no host; older ones are forgotten."""

HOST_PATIENCE = 6.0
"""Seconds that what functions ask of their host waits while that is being started again: longer
than the longest pause of the supervisor between two starts."""

_SAFE = ("GET", "HEAD", "OPTIONS")
_READS = ("get", "list")


class Reply(msgspec.Struct):
    """What the host answered: the head, and a body that is whole or comes."""

    number: int
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    inflow: Inflow | None = None

    async def whole(self, most: int) -> bytes:
        """The whole body.

        Raises:
            errors.TooLarge: it has more than so many bytes.
        """
        if self.inflow is None:
            return self.body
        parts, size = [self.body], len(self.body)
        async for part in self.inflow:
            parts.append(part)
            size += len(part)
            if size > most:
                raise errors.TooLarge("functions.fetch", f"the body is over {most:,} bytes")
        return b"".join(parts)


class Host:
    """The host's line, if there is one, and what is to be told on it."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._there = asyncio.Event()
        self._numbers = itertools.count(wire.ASKED)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._bodies: dict[int, Inflow] = {}
        self._lines: deque[wire.Line] = deque(maxlen=LINES)
        self._counts: dict[int, Counts] = {}
        self._heaps: dict[int, int] = {}
        self._news = asyncio.Event()
        self._sequence = 0
        self._telling = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    def on(self, line: Line) -> bool:
        """Whether this line is the host's."""
        return line is self._line

    def found(self, line: Line) -> None:
        """The host is at the other end of a line."""
        if self._line is not None:
            self.lost(self._line)
        self._line = line
        self._there.set()

    def lost(self, line: Line) -> None:
        """A line is gone; perhaps it was the host's."""
        if line is not self._line:
            return
        self._line = None
        self._there.clear()
        gone = _gone()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(gone)
        for body in list(self._bodies.values()):
            body.end(gone)
        self._waiting.clear()

    def received(self, kind: int, number: int, payload: bytes) -> None:
        """Something has come on a stream that was begun here."""
        match kind:
            case frames.REPLY if waiter := self._waiting.pop(number, None):
                if not waiter.done():
                    waiter.set_result(self._reply(number, payload))
            case frames.ERROR if waiter := self._waiting.pop(number, None):
                if not waiter.done():
                    waiter.set_exception(errors.from_wire(payload))
            case frames.ITEM if body := self._bodies.get(number):
                body.take(payload)
            case frames.END if body := self._bodies.get(number):
                body.end()
            case frames.ERROR if body := self._bodies.get(number):
                body.end(errors.from_wire(payload))

    def _reply(self, number: int, payload: bytes) -> Reply:
        status, kind, head, body = wire.unpack_reply(payload)
        headers = wire.decode_headers(head) if head else []
        kind_of_body = kind & ~wire.STREAMED
        if kind_of_body != wire.GIVEN and all(n.lower() != "content-type" for n, _ in headers):
            headers.append(("content-type", wire.CONTENT_TYPES[kind_of_body]))
        reply = Reply(number, status, headers, body)
        if kind & wire.STREAMED and (line := self._line):
            reply.inflow = self._bodies[number] = Inflow(
                lambda kind, payload: line.send(kind, number, payload),
                lambda: self._forget(number),
            )
        return reply

    def _forget(self, number: int) -> None:
        self._bodies.pop(number, None)

    async def ask(self, slot: int, word: str, body: bytes) -> Reply:
        """Ask for something, and wait for the answer; if there is no host, for one to come.

        Raises:
            errors.Error: what the host says, or that it went away.
        """
        await self._there.wait()
        return await self._asked(self._said(slot, word, body))

    async def _ask(self, slot: int, word: str, body: bytes, *, again: bool) -> Reply:
        """Ask for something of a function's; waits a moment for a host that is being started.

        Args:
            slot: of the function.
            word: of `wire`.
            body: its JSON.
            again: whether another host may be asked when this one goes away.

        Raises:
            errors.Error: what the host says, or that it went away.
        """
        while True:
            try:
                async with asyncio.timeout(HOST_PATIENCE):
                    await self._there.wait()
            except TimeoutError:
                raise _gone() from None
            try:
                return await self._asked(self._said(slot, word, body))
            except errors.ConnectionLost:
                if not again:
                    raise

    def _said(self, slot: int, word: str, body: bytes) -> int:
        """Send a question; its number."""
        assert self._line is not None
        number = next(self._numbers)
        self._waiting[number] = self._loop.create_future()
        self._line.send(frames.REQUEST, number, wire.pack_request(slot, word.encode(), body))
        return number

    async def _asked(self, number: int) -> Reply:
        try:
            return await self._waiting[number]
        except asyncio.CancelledError:
            self.leave(number)
            raise

    def leave(self, number: int) -> None:
        """Nobody wants an answer, or the rest of it, any more."""
        waiter, body = self._waiting.pop(number, None), self._bodies.get(number)
        if body is not None:
            body.cancel()
        if (waiter or body) and self._line and self._line.open:
            self._line.send(frames.CANCEL, number, b"")

    async def fetch(self, slot: int, fetch: wire.Fetch, most: int) -> tuple[int, Any, bytes]:
        """Make a sub-request; its status, headers and whole body of so many bytes at most."""
        again = fetch.method in _SAFE
        reply = await self._ask(slot, wire.FETCH, wire.encode(fetch), again=again)
        try:
            return reply.status, reply.headers, await reply.whole(most)
        finally:
            self.leave(reply.number)

    async def use(self, slot: int, use: wire.Use, most: int) -> Any:
        """Use a binding."""
        again = use.binding != "call" and use.verb in _READS
        reply = await self._ask(slot, wire.CALL, wire.encode(use), again=again)
        try:
            return msgspec.json.decode(await reply.whole(most) or b"null")
        finally:
            self.leave(reply.number)

    def log(self, slot: int, level: str, text: str, trace: str) -> None:
        """A line for the log of a function."""
        self._lines.append(
            wire.Line(slot=slot, level=level, text=text, time=time.time(), trace=trace)
        )
        self._news.set()

    def counts(self, slot: int) -> Counts:
        """What will be told of a function; add to it, and say `count`."""
        return self._counts.setdefault(slot, Counts())

    def count(self, slot: int, heap: int) -> None:
        """Something was added to the counts of a function, and its heap has so many bytes."""
        self._heaps[slot] = heap
        self._news.set()

    async def tell(self) -> None:
        """Tell the host what there is to tell, for ever."""
        while True:
            await self._news.wait()
            # Not at once: of a function that is being loaded the host has to hear first.
            await asyncio.sleep(PAUSE)
            self._news.clear()
            await self.told()

    async def last_told(self) -> None:
        """Tell the host all there is, until it has it; nothing, if there is no host."""
        while self._there.is_set() and (self._lines or self._counts or self._telling.locked()):
            async with self._telling:
                await self._told()

    def _some(self) -> list[wire.Line]:
        """Lines for one note."""
        lines: list[wire.Line] = []
        room = wire.NOTE_ROOM
        while self._lines and room > 0:
            lines.append(self._lines.popleft())
            room -= len(lines[-1].text) + wire.NOTE_LINE
        return lines

    async def told(self) -> None:
        """Tell the host what there is, until it has it."""
        async with self._telling:
            await self._told()

    async def _told(self) -> None:
        lines = self._some()
        counts, self._counts = self._counts, {}
        heaps, self._heaps = self._heaps, {}
        if not lines and not counts and not heaps:
            return
        if self._lines:
            self._news.set()
        self._sequence += 1
        notes = wire.Notes(sequence=self._sequence, lines=lines, counts=counts, heaps=heaps)
        body = wire.encode(notes)
        while True:
            try:
                await self.ask(0, wire.NOTES, body)
                return
            except errors.ConnectionLost:
                # Another host may have had them already; the number says so.
                continue
            except errors.Error as error:
                _log.warning("the host does not take notes: %s", error)
                await asyncio.sleep(PAUSE)


def _gone() -> errors.ConnectionLost:
    return errors.ConnectionLost("functions.host", "the host of functions went away")


def encoded(body: bytes | None) -> str:
    """A body as it travels in a `wire.Fetch`."""
    return base64.b64encode(body).decode() if body else ""
