"""Notes of workers: lines for logs, and counts, which go on to the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from microcosmos.functions import wire
from microcosmos.functions.counting import Count, key_of, tell
from microcosmos.functions.interface import Counts

from .asked import Slots
from .logs import FunctionLogs

_SETTLE = 1.0

Noted = Callable[[str, wire.Notes], None]
"""Is told the notes of a worker, as soon as they come."""


class NoteTaker:
    """Takes the notes of workers.

    A worker keeps counts until they are said to be taken, and that is not before the core has
    them durably; so neither a host nor a core that dies loses any, and none is added twice.

    Args:
        logs: of functions.
        count: gives counts to the core.
        noted: is told of all notes.
    """

    def __init__(self, logs: FunctionLogs, count: Count, noted: Noted = lambda *_: None) -> None:
        self._logs = logs
        self._count = count
        self._noted = noted
        self._read: dict[str, int] = {}
        self._counting: dict[str, asyncio.Lock] = {}

    @property
    def counting(self) -> int:
        """From how many workers counts are on their way to the core."""
        return sum(lock.locked() for lock in self._counting.values())

    async def take(self, worker: str, slots: Slots, notes: wire.Notes) -> None:
        """Take notes; returns once they need not be told again."""
        if notes.sequence > self._read.get(worker, 0):
            self._read[worker] = notes.sequence
            self._noted(worker, notes)
            self._write(slots, notes)
        counts = _by_version(slots, notes)
        if counts:
            # One after the other: the core knows by the sequence what it has.
            async with self._counting.setdefault(worker, asyncio.Lock()):
                await tell(self._count, worker, notes.sequence, counts)

    def forget(self, worker: str) -> None:
        """A worker is no more."""
        self._read.pop(worker, None)
        self._counting.pop(worker, None)

    async def keep(self) -> None:
        """Tell in logs what was dropped of them, for ever."""
        while True:
            await asyncio.sleep(_SETTLE)
            self._logs.settle()

    def _write(self, slots: Slots, notes: wire.Notes) -> None:
        for line in notes.lines:
            if (whose := slots.name(line.slot)) is not None:
                level = line.level if line.level in _LEVELS else "info"
                self._logs.write(*whose, level, line.text, at=line.time, trace=line.trace)


_LEVELS = ("debug", "info", "warn", "error")


def _by_version(slots: Slots, notes: wire.Notes) -> dict[str, Counts]:
    """The counts of slots by versions, of which one may have several."""
    summed: dict[str, Counts] = {}
    for slot, counts in notes.counts.items():
        if (whose := slots.name(slot)) is not None and counts != _NOTHING:
            key = key_of(*whose, slots.number(slot))
            summed.setdefault(key, Counts()).add(counts)
    return summed


_NOTHING = Counts()
