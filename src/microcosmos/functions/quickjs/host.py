"""The host's line: what functions ask for goes out on it, and what there is to tell."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.failing import kind_of
from microcosmos.functions.interface import Counts
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from .limits import HOST_PATIENCE, LOG_LINE, LOG_LINES

SOON = 0.2
"""Seconds until something new is told."""

Receiver = Callable[[int, bytes], None]
"""Takes the frames that answer something that was asked."""

_GONE = errors.Unavailable("functions.host", "what functions ask is not answered just now")


class _Asked:
    """Something that was asked for.

    Attributes:
        payload: how it is asked.
        receiver: takes the answer.
        again: whether it may be asked again when nobody knows what became of it.
        held: refuses it, while it waits for a host; None once it is on its way.
    """

    __slots__ = ("again", "held", "payload", "receiver")

    def __init__(self, payload: bytes, receiver: Receiver, again: bool) -> None:
        self.payload = payload
        self.receiver = receiver
        self.again = again
        self.held: asyncio.TimerHandle | None = None


class Host:
    """Whoever said `HOST` last. Nobody may have yet, or just now."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._numbers = itertools.count(wire.ASKED)
        self._asked: dict[int, _Asked] = {}

    @property
    def there(self) -> bool:
        """Whether there is a host."""
        return self._line is not None

    def on(self, line: Line) -> bool:
        """Whether this line is the host's."""
        return line is self._line

    def found(self, line: Line) -> None:
        """This line is the host's from now on."""
        if line is self._line:
            return
        self._leave()
        self._line = line
        for number, asked in self._asked.items():
            if asked.held is not None:
                asked.held.cancel()
                asked.held = None
            line.send(frames.REQUEST, number, asked.payload)

    def lost(self, line: Line) -> None:
        """A line is gone."""
        if line is self._line:
            self._leave()

    def ask(
        self, slot: int, word: str, body: bytes, receiver: Receiver, *, again: bool = False
    ) -> int:
        """Ask for something; the answer goes to the receiver until it is forgotten.

        Args:
            slot: of the function that asks; 0 is the worker itself.
            word: of `wire`.
            body: its JSON.
            receiver: takes the frames of the answer.
            again: whether another host may be asked when this one goes away.
        """
        number = next(self._numbers)
        if number >= 2 * wire.ASKED:
            self._numbers = itertools.count(wire.ASKED)
            number = next(self._numbers)
        payload = wire.pack_request(slot, word.encode(), body)
        asked = self._asked[number] = _Asked(payload, receiver, again)
        if self._line is None:
            self._hold(number, asked)
        else:
            self._line.send(frames.REQUEST, number, payload)
        return number

    def say(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame about something that was asked."""
        if self._line is not None and number in self._asked:
            self._line.send(kind, number, payload)

    def forget(self, number: int) -> None:
        """It was answered."""
        asked = self._asked.pop(number, None)
        if asked is not None and asked.held is not None:
            asked.held.cancel()

    def cancel(self, number: int) -> None:
        """Nobody wants the answer any more."""
        if number in self._asked:
            self.say(frames.CANCEL, number)
            self.forget(number)

    def received(self, kind: int, number: int, payload: bytes) -> None:
        """A frame that answers."""
        if (asked := self._asked.get(number)) is not None:
            asked.again = False
            asked.receiver(kind, payload)

    def _hold(self, number: int, asked: _Asked) -> None:
        """Wait for the next host, which is as a rule there in no time."""
        loop = asyncio.get_running_loop()
        asked.held = loop.call_later(HOST_PATIENCE, self._refuse, number)

    def _refuse(self, number: int) -> None:
        self.received(frames.ERROR, number, _GONE.to_wire())

    def _leave(self) -> None:
        """There is no host any more."""
        self._line = None
        for number, asked in list(self._asked.items()):
            if asked.held is None:
                if asked.again:
                    self._hold(number, asked)
                else:
                    self._refuse(number)


class Meter:
    """What one function has used since that was last told.

    Attributes:
        slot: of the function.
        noted: whether it is about to be told.
        ran_ns: nanoseconds that the engine has run for it.
        failures: errors by their kind, as of `Counts`.
    """

    __slots__ = (
        *("cold_starts", "errors", "execution_ns", "failures", "fetches", "noted", "ran_ns"),
        *("request_bytes", "requests", "response_bytes", "slot"),
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.noted = False
        self._clear()

    def _clear(self) -> None:
        self.requests = self.response_bytes = self.execution_ns = self.ran_ns = 0
        self.errors = self.request_bytes = self.fetches = self.cold_starts = 0
        self.failures: dict[str, int] = {}

    def fail(self, id: str) -> None:
        """A request has failed, by an error of this id."""
        kind = kind_of(id)
        self.errors += 1
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def taken(self, heap: int, part: float) -> Counts:
        """Its counts, which begin anew.

        Args:
            heap: bytes of memory that it has.
            part: of the time that it ran, the part that the processor was really its own.
        """
        counts = Counts(
            requests=self.requests,
            errors=self.errors,
            failures=self.failures,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            execution_ns=self.execution_ns,
            cpu_ns=int(self.ran_ns * part),
            heap=heap,
            # Between two looks at the heap the sum over requests is that of their times.
            byte_ms=heap * self.execution_ns // 1_000_000,
            fetches=self.fetches,
            cold_starts=self.cold_starts,
        )
        self._clear()
        return counts


class Notes:
    """Lines and counts on their way to the host: kept until it has answered.

    Args:
        host: who is told.
        heap: gives the bytes of a function by its slot.
    """

    def __init__(self, host: Host, heap: Callable[[int], int]) -> None:
        self._host = host
        self._heap = heap
        self._lines: dict[int, list[wire.Line]] = {}
        self._dropped: dict[int, int] = {}
        self._room = wire.NOTE_ROOM
        self._meters: list[Meter] = []
        self._sequence = 0
        self._sent: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._used = time.process_time_ns()
        self._told: list[asyncio.Future[None]] = []

    def log(self, slot: int, level: str, text: str, trace: str) -> None:
        """Keep a line of a function's log."""
        lines = self._lines.setdefault(slot, [])
        if len(lines) >= LOG_LINES or self._room <= 0:
            self._dropped[slot] = self._dropped.get(slot, 0) + 1
            return
        if len(text) > LOG_LINE:
            text = f"{text[:LOG_LINE]}… ({len(text) - LOG_LINE:,} more characters)"
        self._room -= len(text) + wire.NOTE_LINE
        lines.append(wire.Line(slot=slot, level=level, text=text, time=time.time(), trace=trace))
        self._soon()

    def note(self, meter: Meter) -> None:
        """The counts of a function have changed."""
        if not meter.noted:
            meter.noted = True
            self._meters.append(meter)
            self._soon()

    def go_on(self) -> None:
        """There is a host, perhaps a new one, that has not heard what was told the last one."""
        if self._sent is not None:
            self._say(self._sent)
        else:
            self._soon()

    async def told(self) -> None:
        """Tell all there is, and wait until it has been heard, or there is nobody to hear it."""
        while self._host.there and (self._sent is not None or self._lines or self._meters):
            self._tell()
            future = asyncio.get_running_loop().create_future()
            self._told.append(future)
            await future

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self._due)

    def _due(self) -> None:
        self._timer = None
        self._tell()

    def _tell(self) -> None:
        if self._sent is None and self._host.there and (self._lines or self._meters):
            self._sent = self._gathered()
            self._say(self._sent)

    def _say(self, notes: bytes) -> None:
        number = self._host.ask(0, wire.NOTES, notes, lambda *said: self._heard(number, *said))

    def _heard(self, number: int, kind: int, payload: bytes) -> None:
        self._host.forget(number)
        if kind == frames.REPLY or self._host.there:
            # A host that refuses them would refuse them for ever.
            self._sent = None
            if self._lines or self._meters:
                self._soon()
        told, self._told = self._told, []
        for future in told:
            future.set_result(None)

    def _gathered(self) -> bytes:
        self._sequence += 1
        meters, self._meters = self._meters, []
        part = self._part(meters)
        heaps, counts = {}, {}
        for meter in meters:
            meter.noted = False
            heaps[meter.slot] = heap = self._heap(meter.slot)
            counts[meter.slot] = meter.taken(heap, part)
        notes = wire.Notes(
            sequence=self._sequence, lines=list(self._taken()), counts=counts, heaps=heaps
        )
        return wire.encode(notes)

    def _part(self, meters: list[Meter]) -> float:
        """The part of the time in the engine that the processor was not somebody else's."""
        used = time.process_time_ns()
        spent, self._used = used - self._used, used
        ran = sum(meter.ran_ns for meter in meters)
        return min(1.0, spent / ran) if ran else 1.0

    def _taken(self) -> Iterable[wire.Line]:
        lines, self._lines = self._lines, {}
        dropped, self._dropped = self._dropped, {}
        self._room = wire.NOTE_ROOM
        for slot, of_slot in lines.items():
            yield from of_slot
            if lost := dropped.get(slot):
                text = f"{lost:,} more lines were dropped: too many at once"
                yield wire.Line(slot=slot, level="warn", text=text, time=time.time())
