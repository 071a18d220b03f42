"""Records in memory: for tests, and for what may be forgotten when the process ends."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import islice
from types import TracebackType

import msgspec

from microcosmos.base.clock import SYSTEM, Clock

from .backend import Query, Scope, check_version, purge_forever, seconds_left, stopped
from .interface import Op, Record, Store, Write
from .table import Table

_FOREVER = float("inf")


class MemoryStore:
    """A store that lives as long as its ``async with``, which gives its default table.

    Args:
        clock: what expiry goes by.
    """

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._shelves: dict[Scope, _Shelf] = {}
        self._version = 0

    def __repr__(self) -> str:
        return "memory://"

    async def __aenter__(self) -> Store:
        self._purger = asyncio.create_task(purge_forever(self._clock, self.purge))
        return Table(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await stopped(self._purger)
        self._shelves.clear()

    async def one(self, scope: Scope, key: str) -> Record | None:
        now = self._clock.time()
        entry = self._shelf(scope).alive(key.encode(), now)
        return entry.record(key, now) if entry else None

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        now, shelf = self._clock.time(), self._shelf(scope)
        return [shelf.entries[key].record(key.decode(), now) for key in shelf.page(query, now)]

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return [key.decode() for key in self._shelf(scope).page(query, self._clock.time())]

    async def count(self, scope: Scope, query: Query) -> int:
        return sum(1 for _ in self._shelf(scope).matching(query, self._clock.time()))

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        database, table = scope
        now = self._clock.time()
        for op in ops:
            entry = self._shelf((database, op.table or table)).alive(op.key.encode(), now)
            check_version(op, entry.version if entry else 0)
        self._version += 1
        for op in ops:
            shelf = self._shelves.setdefault((database, op.table or table), _Shelf())
            shelf.do(op, self._version, now)
        return self._version

    async def tables(self, database: str) -> list[str]:
        return sorted(table for home, table in self._used() if home == database)

    async def databases(self) -> list[str]:
        return sorted({database for database, _ in self._used()})

    async def purge(self) -> None:
        """Remove what has expired, and tables without records."""
        now = self._clock.time()
        for scope, shelf in [*self._shelves.items()]:
            shelf.purge(now)
            if not shelf.entries:
                del self._shelves[scope]

    def _shelf(self, scope: Scope) -> _Shelf:
        return self._shelves.get(scope) or _Shelf()

    def _used(self) -> list[Scope]:
        now = self._clock.time()
        return [
            scope for scope, shelf in self._shelves.items() if any(shelf.matching(Query(), now))
        ]


class _Entry(msgspec.Struct, frozen=True):
    value: bytes
    metadata: dict[str, str]
    expires: float
    version: int

    def record(self, key: str, now: float) -> Record:
        # A copy, so that nobody changes the stored metadata through a record.
        left = seconds_left(self.expires, now)
        return Record(key, self.value, dict(self.metadata), left, self.version)


class _Shelf:
    """One table: entries by key, the keys in order, and those that had an expiry."""

    def __init__(self) -> None:
        self.entries: dict[bytes, _Entry] = {}
        self._order: list[bytes] = []
        self._mortal: set[bytes] = set()

    def alive(self, key: bytes, now: float) -> _Entry | None:
        entry = self.entries.get(key)
        return entry if entry and entry.expires > now else None

    def matching(self, query: Query, now: float) -> Iterator[bytes]:
        low, high = (bisect_left(self._order, bound) for bound in query.bounds())
        places = range(low, high) if query.order == "asc" else range(high - 1, low - 1, -1)
        suffix = query.suffix.encode()
        keys = (self._order[place] for place in places)
        return (key for key in keys if key.endswith(suffix) and self.alive(key, now))

    def page(self, query: Query, now: float) -> Iterator[bytes]:
        end = query.offset + query.limit if query.limit else None
        return islice(self.matching(query, now), query.offset, end)

    def do(self, op: Op, version: int, now: float) -> None:
        key = op.key.encode()
        if not isinstance(op, Write):
            self._remove(key)
            return
        if key not in self.entries:
            insort(self._order, key)
        expires = now + op.expiry if op.expiry else _FOREVER
        self.entries[key] = _Entry(op.value, dict(op.metadata), expires, version)
        if op.expiry:
            self._mortal.add(key)

    def purge(self, now: float) -> None:
        for key in [key for key in self._mortal if not self.alive(key, now)]:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        if self.entries.pop(key, None):
            del self._order[bisect_left(self._order, key)]
            self._mortal.discard(key)
