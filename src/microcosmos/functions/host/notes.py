"""Notes of workers: lines for logs, and counts, which go on to the core."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Counts

from .asked import Slots
from .logs import FunctionLogs

log = logging.getLogger("microcosmos.functions")

PAUSE = 0.2
"""Seconds until counts that the core did not take are sent again; they double."""

LONGEST_PAUSE = 2.0
"""The longest such pause, in seconds."""

_SETTLE = 1.0

Count = Callable[[str, int, Mapping[str, Counts]], Awaitable[None]]
"""Adds the counts of a worker, named by its id and their sequence, durably and only once."""

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
        counts = _by_name(slots, notes)
        if counts:
            # One after the other: the core knows by the sequence what it has.
            async with self._counting.setdefault(worker, asyncio.Lock()):
                await self._send(worker, notes.sequence, counts)

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

    async def _send(self, worker: str, sequence: int, counts: Mapping[str, Counts]) -> None:
        pause = PAUSE
        while True:
            try:
                await self._count(worker, sequence, counts)
                return
            except (errors.BadRequest, errors.Forbidden) as error:
                log.error("counts of functions were refused, and are lost: %s", error.detail)
                return
            except errors.Error as error:
                log.debug("counts of functions cannot be told yet: %s", error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)


_LEVELS = ("debug", "info", "warn", "error")


def _by_name(slots: Slots, notes: wire.Notes) -> dict[str, Counts]:
    """The counts of slots, added up by functions, of which several versions may run."""
    summed: dict[str, Counts] = {}
    for slot, counts in notes.counts.items():
        whose = slots.name(slot)
        if whose is None:
            continue
        key = "/".join(whose)
        total = summed.setdefault(key, Counts())
        for field in Counts.__struct_fields__:
            setattr(total, field, getattr(total, field) + getattr(counts, field))
    return {key: total for key, total in summed.items() if total != Counts()}
