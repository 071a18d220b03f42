"""The backend: every record in memory, each batch in the journal before anyone can see it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType

from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store import Backend, Change, Delete, Op, Query, Record, Scope, Store, Table, Write
from microcosmos.store.backend import (
    FrozenBackend,
    check_version,
    purge_forever,
    seconds_left,
    stopped,
)
from microcosmos.store.watch import MAX_PAGE, REMEMBERED_FOR, Cursor, Page, Watches, check_since

from .journal import Journal, Row

_FOREVER = float("inf")

Tables = dict[Scope, dict[str, Row]]


class Reads:
    """Reading from tables, whose rows never change; see `Backend`."""

    def __init__(self, tables: Tables, version: int, clock: Clock) -> None:
        self._tables = tables
        self._version = version
        self._clock = clock

    async def one(self, scope: Scope, key: str) -> Record | None:
        row = self._alive(scope, key)
        return None if row is None else _record(row, self._clock.time())

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        found, size = [], 0
        for row in self._page(scope, query):
            found.append(_record(row, self._clock.time()))
            size += len(found[-1].value)
            if query.max_bytes and size >= query.max_bytes:
                break
        return found

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return [row.key for row in self._page(scope, query)]

    async def count(self, scope: Scope, query: Query) -> int:
        return sum(1 for _ in self._matching(scope, query))

    async def tables(self, database: str) -> list[str]:
        return sorted(table for home, table in self._used() if home == database)

    async def databases(self) -> list[str]:
        return sorted({database for database, _ in self._used()})

    async def version(self) -> int:
        return self._version

    def _alive(self, scope: Scope, key: str) -> Row | None:
        row = self._tables.get(scope, {}).get(key)
        return row if row and _is_alive(row, self._clock.time()) else None

    def _matching(self, scope: Scope, query: Query) -> Iterator[Row]:
        (low, high), now = query.bounds(), self._clock.time()
        rows = self._tables.get(scope, {})
        # Text sorts by code point, as UTF-8 does. A large store would keep its keys in order.
        for key in sorted(rows, reverse=query.order == "desc"):
            wanted = low <= key.encode() < high and key.endswith(query.suffix)
            if wanted and _is_alive(rows[key], now):
                yield rows[key]

    def _page(self, scope: Scope, query: Query) -> Iterator[Row]:
        end = query.offset + query.limit if query.limit else None
        return islice(self._matching(scope, query), query.offset, end)

    def _used(self) -> list[Scope]:
        return [scope for scope in self._tables if any(self._matching(scope, Query()))]


class JournalStore(Reads):
    """A store in one file, for as long as its ``async with``, which gives its default table.

    Args:
        url: ``journal:///absolute/path``.
        clock: what expiry goes by.
    """

    def __init__(self, url: str, *, clock: Clock = SYSTEM) -> None:
        super().__init__({}, 0, clock)
        self._path = Path("/" + url.removeprefix("journal://").lstrip("/"))
        self._writing = asyncio.Lock()
        self._watches = Watches(self, clock)
        self._deletes: deque[tuple[float, Scope, Row]] = deque()
        self._forgotten: dict[Scope, int] = {}

    def __repr__(self) -> str:
        return f"journal://{self._path}"

    async def __aenter__(self) -> Store:
        self._journal = await asyncio.to_thread(Journal, self._path)
        # The file has been written anew, without what was deleted.
        self._version = self._since = self._journal.version
        for row in self._journal.rows.values():
            self._put(row)
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
        async with self._writing:
            self._journal.close()

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        # What has begun is finished, even if its caller no longer waits.
        return await asyncio.shield(asyncio.ensure_future(self._apply(scope, ops)))

    async def _apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        database, table = scope
        async with self._writing:
            for op in ops:
                row = self._alive((database, op.table or table), op.key)
                check_version(op, row.version if row else 0)
            made = (self._row(database, op.table or table, op) for op in ops)
            await self._commit([row for row in made if row is not None])
            return self._version

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watches.open(scope, prefix, since)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        tables = {scope: rows.copy() for scope, rows in self._tables.items()}
        yield FrozenBackend(Reads(tables, self._version, self._clock))

    async def changes(self, scope: Scope, prefix: str, after: Cursor) -> Page:
        """The next changes after a place; see `microcosmos.store.watch.Source`."""
        check_since(after, self._version, self._forgotten.get(scope, self._since))
        now, rows = self._clock.time(), self._tables.get(scope, {}).values()
        places = ((Cursor(row.version, row.key.encode()), row) for row in rows)
        news = sorted(
            (place, row) for place, row in places if place > after and row.key.startswith(prefix)
        )
        found = [
            Change(row.key, row.version, _record(row, now) if _is_alive(row, now) else None)
            for _, row in news[:MAX_PAGE]
        ]
        more = len(news) > MAX_PAGE
        return Page(found, news[MAX_PAGE - 1][0] if more else Cursor(self._version), more)

    async def purge(self) -> None:
        """Remove what has expired, and forget deletes of long ago."""
        now = self._clock.time()
        async with self._writing:
            rows = [row for table in self._tables.values() for row in table.values()]
            await self._commit(
                [
                    Row(row.database, row.table, row.key, self._version + 1)
                    for row in rows
                    if row.value is not None and not _is_alive(row, now)
                ]
            )
        while self._deletes and self._deletes[0][0] <= now - REMEMBERED_FOR:
            _, scope, row = self._deletes.popleft()
            self._forgotten[scope] = row.version
            if self._tables[scope].get(row.key) is row:
                del self._tables[scope][row.key]

    def _row(self, database: str, table: str, op: Op) -> Row | None:
        """What becomes of an op's key, if anything does."""
        version = self._version + 1
        if isinstance(op, Write):
            expires = self._clock.time() + op.expiry if op.expiry else 0
            notes = dict(op.metadata)
            return Row(database, table, op.key, version, op.value, notes, expires)
        row = self._tables.get((database, table), {}).get(op.key)
        if isinstance(op, Delete) and row and row.value is not None:
            return Row(database, table, op.key, version)
        return None

    async def _commit(self, rows: list[Row]) -> None:
        if not rows:
            return
        await asyncio.to_thread(self._journal.append, rows)
        for row in rows:
            self._put(row)
        self._version = rows[0].version
        self._watches.tell((row.database, row.table, row.key.encode()) for row in rows)

    def _put(self, row: Row) -> None:
        scope = (row.database, row.table)
        self._tables.setdefault(scope, {})[row.key] = row
        if row.value is None:
            # It stays for a while, for those who watch.
            self._deletes.append((self._clock.time(), scope, row))


def _is_alive(row: Row, now: float) -> bool:
    return row.value is not None and (not row.expires or row.expires > now)


def _record(row: Row, now: float) -> Record:
    left = seconds_left(row.expires or _FOREVER, now)
    return Record(row.key, row.value or b"", dict(row.metadata), left, row.version)
