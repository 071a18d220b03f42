"""The book: lines as the store has them, and as they were last seen.

A line has one record with its total, its sum of the hour and that of the day that it was last
added to; once an hour or a day is over and something is added again, that sum moves to a record of
its own. So adding to a line is one write, and to know a line is one read.
"""

from __future__ import annotations

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Op, Record, Store, Write

from . import keys
from .interface import Added, Counts, Line

TABLE = "ledger"
"""The table of lines, in the database of the platform; all else is in parts of it."""

HOURS_KEPT = 35 * keys.DAY
"""Seconds for which the sum of an hour is kept, from its beginning on."""

DAYS_KEPT = 400 * keys.DAY
"""Seconds for which the sum of a day is kept, from its beginning on."""

MAX_KNOWN = 20_000
"""Lines that are remembered, so that they need not be read when they are added to."""


class Tables:
    """Where the ledger is kept.

    Args:
        store: any table of the database `PLATFORM`.
    """

    def __init__(self, store: Store) -> None:
        self.lines = store.table(TABLE)
        self.hours = self.lines.part("hours")
        self.days = self.lines.part("days")
        self.told = self.lines.part("told")


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line as the store has it.

    Attributes:
        total: since its beginning.
        hour: which the line was last added to.
        in_hour: the sum of it.
        day: which the line was last added to.
        in_day: the sum of it.
        account: the id of the account that it belongs to; empty of a namespace's.
    """

    total: Counts = msgspec.field(default_factory=Counts)
    hour: str = ""
    in_hour: Counts = msgspec.field(default_factory=Counts)
    day: str = ""
    in_day: Counts = msgspec.field(default_factory=Counts)
    account: str = ""

    @property
    def packed(self) -> bytes:
        """As it is written: without what is nothing."""
        return codec.encode(
            {
                "total": _short(self.total),
                "hour": self.hour,
                "in_hour": _short(self.in_hour),
                "day": self.day,
                "in_day": _short(self.in_day),
                "account": self.account,
            }
        )


def kept(record: Record) -> Kept:
    """The line of a record."""
    found: Kept = codec.decode(record.value, Kept, id=TABLE)
    return found


def _short(counts: Counts) -> dict[str, object]:
    fields = ((name, getattr(counts, name)) for name in Counts.__struct_fields__)
    return {name: value for name, value in fields if value}


class Book:
    """Lines as they were last read or written.

    Args:
        tables: where they are kept.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known: dict[str, tuple[Kept, int]] = {}

    def clear(self) -> None:
        """What was seen may not be so any more."""
        self._known.clear()

    async def find(self, key: str) -> tuple[Kept, int]:
        """A line and the version of its record; version 0 is of one that is not there."""
        if (known := self._known.get(key)) is not None:
            return known
        try:
            record = await self._tables.lines.read(key)
        except errors.NotFound:
            return Kept(), 0
        return kept(record), record.version

    def wrote(self, lines: dict[str, Kept], version: int) -> None:
        """Lines were written."""
        if len(self._known) + len(lines) > MAX_KNOWN:
            self._known.clear()
        for key, line in lines.items():
            self._known[key] = line, version


class Page:
    """What is to be written at once.

    Attributes:
        lines: as they will be, by key.
        added: what was added to them.
        ops: that do so.

    Args:
        book: of which.
        tables: where it is kept.
        at: when.
    """

    def __init__(self, book: Book, tables: Tables, at: float) -> None:
        self._book = book
        self._hours = tables.hours.scope[1]
        self._days = tables.days.scope[1]
        self._at = at
        self._hour = keys.hour(at)
        self._day = keys.day(at)
        self.lines: dict[str, Kept] = {}
        self.added: list[Added] = []
        self.ops: list[Op] = []

    async def add(self, line: Line, account: str, counts: Counts) -> None:
        """Add to a line; once for each."""
        key = keys.of(line)
        before, version = await self._book.find(key)
        # A clock that was put back finds an hour that has begun already.
        hour, day = max(self._hour, before.hour), max(self._day, before.day)
        in_hour = before.in_hour.plus(counts) if hour == before.hour else counts
        in_day = before.in_day.plus(counts) if day == before.day else counts
        if before.hour and hour != before.hour:
            self._over(self._hours, key, before.hour, before.in_hour, HOURS_KEPT)
        if before.day and day != before.day:
            self._over(self._days, key, before.day, before.in_day, DAYS_KEPT)
        after = Kept(before.total.plus(counts), hour, in_hour, day, in_day, account)
        self.lines[key] = after
        self.ops.append(Write(key, after.packed, version=version))
        owner = account if line.name is not None else None
        self.added.append(Added(line, owner, counts, in_hour, in_day, self._at))

    def _over(self, table: str, key: str, stamp: str, counts: Counts, keep: float) -> None:
        """An hour or a day is over; it is kept for so long from its beginning on."""
        left = keys.time_of(stamp) + keep - self._at
        if left > 0:
            value = codec.encode(_short(counts))
            self.ops.append(Write(f"{key}/{stamp}", value, expiry=left, table=table))
