"""Reading the ledger: what was used, ever or since a time, by hours and by days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from microcosmos.base import codec
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store import Record, Store

from . import keys
from .book import HOURS_KEPT, Kept, Tables, kept
from .interface import Counts, Line

Periods = dict[str, Counts]
"""Sums by their hours or days, as of `keys`, the oldest first."""


class Entry(NamedTuple):
    """A line that was found.

    Attributes:
        key: of its record.
        line: which.
        kept: what it says.
    """

    key: str
    line: Line
    kept: Kept


class Reading:
    """Reads the ledger; what was added is seen as soon as it is durable.

    Args:
        tables: where it is kept.
        clock: tells what hours are kept yet.
    """

    def __init__(self, tables: Tables, clock: Clock = SYSTEM) -> None:
        self._tables = tables
        self._clock = clock

    async def page(self, prefix: str, after: str = "", limit: int = 0) -> list[Entry]:
        """Lines whose keys begin like that, as of `keys`, from after one on."""
        records = await self._tables.lines.read(prefix=prefix, after=after, limit=limit)
        return [Entry(record.key, keys.line_of(record.key), kept(record)) for record in records]

    async def find(self, line: Line) -> list[Entry]:
        """The line; with a name and without a version, those of all its versions."""
        if line.name is not None and line.version is None:
            return await self.page(keys.of_name(line.namespace, line.kind, line.name))
        key = keys.of(line)
        return [entry for entry in await self.page(key, limit=1) if entry.key == key]

    async def used(self, entries: Sequence[Entry], since: float = 0.0) -> Counts:
        """What was added to lines together, since a time; 0 is ever.

        Times are rounded down to the hour, those whose hours are not kept any more to the day.
        """
        total = Counts()
        for entry in entries:
            if not since:
                total.add(entry.kept.total)
                continue
            if self._hourly(since):
                midnight = since - since % keys.DAY + keys.DAY
                first, last = keys.hour(since), keys.hour(midnight)
                for counts in (await self._hours(entry, first, last)).values():
                    total.add(counts)
                since_day = keys.day(midnight)
            else:
                since_day = keys.day(since)
            for counts in (await self._days(entry, since_day)).values():
                total.add(counts)
        return total

    async def hours(self, entries: Iterable[Entry], since: float = 0.0) -> Periods:
        """What was added to lines together, by UTC hours, as far as they are kept."""
        first = keys.hour(max(since, self._clock.time() - HOURS_KEPT))
        return _together([await self._hours(entry, first) for entry in entries])

    async def days(self, entries: Iterable[Entry], since: float = 0.0) -> Periods:
        """What was added to lines together, by UTC days, as far as they are kept."""
        return _together([await self._days(entry, keys.day(since)) for entry in entries])

    def begin(self, since: float) -> float:
        """What a time is rounded down to."""
        return since - since % (keys.HOUR if self._hourly(since) else keys.DAY)

    def _hourly(self, since: float) -> bool:
        return since > self._clock.time() - HOURS_KEPT

    async def _hours(self, entry: Entry, first: str, end: str = "") -> Periods:
        line = entry.kept
        if line.hour < first:
            return {}
        found = await _periods(self._tables.hours, entry.key, first, end)
        if not end or line.hour < end:
            found[line.hour] = line.in_hour
        return found

    async def _days(self, entry: Entry, first: str) -> Periods:
        line = entry.kept
        if line.day < first:
            return {}
        found = await _periods(self._tables.days, entry.key, first)
        found[line.day] = line.in_day
        return found


async def _periods(table: Store, key: str, first: str, end: str = "") -> Periods:
    """What a table has of a line, from one hour or day on."""
    records = await table.read(start=f"{key}/{first}", end=f"{key}/{end or _LAST}")
    return {record.key[len(key) + 1 :]: _counts(record) for record in records}


_LAST = ":"
"""Comes after all figures."""


def _counts(record: Record) -> Counts:
    found: Counts = codec.decode(record.value, Counts, id="ledger")
    return found


def _together(all_periods: Sequence[Periods]) -> Periods:
    """The sums of several lines, the oldest first."""
    total: Periods = {}
    for periods in all_periods:
        for stamp, counts in periods.items():
            total[stamp] = total[stamp].plus(counts) if stamp in total else counts
    return {stamp: total[stamp] for stamp in sorted(total)}
