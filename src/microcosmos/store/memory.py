"""Records in memory: for tests, and for what may be forgotten when the process ends."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import NamedTuple

import msgspec

from microcosmos.base.clock import SYSTEM, Clock

from .backend import (
    Backend,
    FrozenBackend,
    Query,
    Scope,
    check_version,
    purge_forever,
    seconds_left,
    stopped,
)
from .interface import Change, Check, Op, Record, Store, Write
from .table import Table
from .watch import (
    MAX_PAGE,
    MAX_REMEMBERED,
    REMEMBERED_FOR,
    Cursor,
    Page,
    Watches,
    check_since,
)

_FOREVER = float("inf")


class MemoryReads:
    """Reading from shelves; see `Backend`."""

    def __init__(self, shelves: dict[Scope, Shelf], clock: Clock) -> None:
        self._shelves = shelves
        self._clock = clock
        self._version = 0

    def __repr__(self) -> str:
        return "memory://"

    async def one(self, scope: Scope, key: str) -> Record | None:
        now = self._clock.time()
        entry = self._shelf(scope).alive(key.encode(), now)
        return entry.record(key, now) if entry else None

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        now, shelf = self._clock.time(), self._shelf(scope)
        found, size = [], 0
        for key in shelf.page(query, now):
            entry = shelf.entries[key]
            found.append(entry.record(key.decode(), now))
            size += len(entry.value)
            if query.max_bytes and size >= query.max_bytes:
                break
        return found

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return [key.decode() for key in self._shelf(scope).page(query, self._clock.time())]

    async def count(self, scope: Scope, query: Query) -> int:
        return sum(1 for _ in self._shelf(scope).matching(query, self._clock.time()))

    async def tables(self, database: str) -> list[str]:
        return sorted(table for home, table in self._used() if home == database)

    async def databases(self) -> list[str]:
        return sorted({database for database, _ in self._used()})

    async def version(self) -> int:
        return self._version

    def _shelf(self, scope: Scope) -> Shelf:
        return self._shelves.get(scope) or Shelf()

    def _used(self) -> list[Scope]:
        now = self._clock.time()
        return [
            scope for scope, shelf in self._shelves.items() if any(shelf.matching(Query(), now))
        ]


class MemoryStore(MemoryReads):
    """A store that lives as long as its ``async with``, which gives its default table.

    Args:
        clock: what expiry goes by.
    """

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        super().__init__({}, clock)
        self._deletes: deque[_Delete] = deque()
        self._forgotten: dict[Scope, int] = {}
        self._watches = Watches(self, clock)

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
        self._watches.close()
        self._shelves.clear()

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        database, table = scope
        now = self._clock.time()
        for op in ops:
            entry = self._shelf((database, op.table or table)).alive(op.key.encode(), now)
            check_version(op, entry.version if entry else 0)
        self._version += 1
        # In the order of keys, so that a table's log is in the order of versions and keys.
        changes = [((database, op.table or table), op.key.encode(), op) for op in ops]
        for where, key, op in sorted(changes, key=lambda change: change[1]):
            self._do(where, key, op, now)
        self._watches.tell((*where, key) for where, key, _ in changes)
        return self._version

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watches.open(scope, prefix, since)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        shelves = {scope: shelf.copy() for scope, shelf in self._shelves.items()}
        view = MemoryReads(shelves, self._clock)
        view._version = self._version
        yield FrozenBackend(view)

    async def changes(self, scope: Scope, prefix: str, after: Cursor) -> Page:
        """The next changes after a place; see `watch.Source`."""
        check_since(after, self._version, self._forgotten.get(scope, 0))
        shelf, start, now = self._shelf(scope), prefix.encode(), self._clock.time()
        found: list[Change] = []
        scanned = shelf.since(after, MAX_PAGE)
        for version, key in scanned:
            if not key.startswith(start):
                continue
            entry = shelf.alive(key, now)
            record = entry.record(key.decode(), now) if entry else None
            found.append(Change(key.decode(), version, record))
        if len(scanned) == MAX_PAGE:
            return Page(found, Cursor(*scanned[-1]), more=True)
        return Page(found, Cursor(self._version), more=False)

    async def purge(self) -> None:
        """Remove what has expired, tables without records, and deletes of long ago."""
        now = self._clock.time()
        expired = [(scope, key) for scope, s in self._shelves.items() for key in s.expired(now)]
        if expired:
            self._version += 1
        for scope, key in sorted(expired):
            self._delete(scope, key, now)
        self._forget(now)
        for scope, shelf in [*self._shelves.items()]:
            if not shelf.entries and not shelf.gone:
                del self._shelves[scope]
        self._watches.tell((*scope, key) for scope, key in expired)

    def _do(self, scope: Scope, key: bytes, op: Op, now: float) -> None:
        if isinstance(op, Write):
            expires = now + op.expiry if op.expiry else _FOREVER
            entry = _Entry(op.value, dict(op.metadata), expires, self._version)
            self._shelves.setdefault(scope, Shelf()).put(key, entry)
        elif not isinstance(op, Check):
            self._delete(scope, key, now)

    def _delete(self, scope: Scope, key: bytes, now: float) -> None:
        if self._shelf(scope).remove(key, self._version):
            self._deletes.append(_Delete(now, scope, key, self._version))

    def _forget(self, now: float) -> None:
        deletes = self._deletes
        while deletes and (len(deletes) > MAX_REMEMBERED or deletes[0].at <= now - REMEMBERED_FOR):
            _, scope, key, version = deletes.popleft()
            self._forgotten[scope] = version
            self._shelf(scope).forget(key, version)


class _Delete(NamedTuple):
    at: float
    scope: Scope
    key: bytes
    version: int


class _Entry(msgspec.Struct, frozen=True):
    value: bytes
    metadata: dict[str, str]
    expires: float
    version: int

    def record(self, key: str, now: float) -> Record:
        # A copy, so that nobody changes the stored metadata through a record.
        left = seconds_left(self.expires, now)
        return Record(key, self.value, dict(self.metadata), left, self.version)


class Shelf:
    """One table: entries by key, the keys in order, those that had an expiry, and a log.

    Attributes:
        entries: what stands under each key.
        gone: the keys deleted lately, with the version of that.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, _Entry] = {}
        self.gone: dict[bytes, int] = {}
        self._order: list[bytes] = []
        self._mortal: set[bytes] = set()
        self._log: list[tuple[int, bytes]] = []

    def copy(self) -> Shelf:
        """The entries as they are now, for reading."""
        other = Shelf()
        other.entries, other._order = self.entries.copy(), self._order.copy()
        return other

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

    def since(self, place: Cursor, most: int) -> list[tuple[int, bytes]]:
        """The log after a place: the last change of each key."""
        places = range(bisect_right(self._log, place), len(self._log))
        entries = (self._log[place] for place in places)
        return [*islice((entry for entry in entries if self._is_last(*entry)), most)]

    def expired(self, now: float) -> list[bytes]:
        return [key for key in self._mortal if not self.alive(key, now)]

    def put(self, key: bytes, entry: _Entry) -> None:
        if key not in self.entries:
            insort(self._order, key)
        self.entries[key] = entry
        self.gone.pop(key, None)
        (self._mortal.discard if entry.expires == _FOREVER else self._mortal.add)(key)
        self._note(entry.version, key)

    def remove(self, key: bytes, version: int) -> bool:
        """Take a key away; whether it was there."""
        if not self.entries.pop(key, None):
            return False
        del self._order[bisect_left(self._order, key)]
        self._mortal.discard(key)
        self.gone[key] = version
        self._note(version, key)
        return True

    def forget(self, key: bytes, version: int) -> None:
        """Do not remember that delete any longer."""
        if self.gone.get(key) == version:
            del self.gone[key]

    def _note(self, version: int, key: bytes) -> None:
        self._log.append((version, key))
        if len(self._log) > 2 * (len(self.entries) + len(self.gone)) + 100:
            self._log = [entry for entry in self._log if self._is_last(*entry)]

    def _is_last(self, version: int, key: bytes) -> bool:
        entry = self.entries.get(key)
        return entry.version == version if entry else self.gone.get(key) == version
