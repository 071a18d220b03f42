"""Reading from the tables of a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from microcosmos.base.clock import Clock

from .backend import Query, Scope, seconds_left
from .interface import Change, Record
from .postgres_server import PLACE
from .watch import MAX_PAGE, MAX_PAGE_BYTES, Cursor, Page, check_since

Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""Gives the rows of a question, like ``asyncpg.Connection.fetch``."""

LAST = "SELECT last FROM microcosmos.revision"
"""SQL for the version of the last change."""

_RECORDS = "microcosmos.records"
_COLUMNS = "key, value, metadata, expires, version"
_ONE = f"SELECT {_COLUMNS} FROM {_RECORDS} WHERE database = $1 AND tbl = $2 AND key = $3"

_MATCHING = """
database = $1 AND tbl = $2 AND key >= $3 AND key < $4 AND (expires IS NULL OR expires > $5)
"""
# A start before the first byte means the first.
_ENDING = "AND substr(key, octet_length(key) - octet_length($6::bytea) + 1) = $6"

_MAX_ROWS = 1000

_SINCE = f"""
{PLACE} = $1 || E'\\x01' || $2 AND version <= $3 AND (version, key) > ($4, $5)
"""
_STEP = f"ORDER BY version, key LIMIT {MAX_PAGE}"
# Each half by its index, so that together they are no more than twice a step.
_CHANGED = f"""
(SELECT version, key FROM {_RECORDS} WHERE {_SINCE} {_STEP}) UNION ALL
(SELECT version, key FROM microcosmos.deletes WHERE {_SINCE} {_STEP}) {_STEP}
"""
# The values of as many as their bytes allow, the first one whatever its size. The limit of 1 has
# each looked up by its key, and not all of the table read.
_VALUES = f"""
SELECT key, CASE WHEN before < {MAX_PAGE_BYTES} THEN value END, metadata, expires, version FROM (
    SELECT found.*, sum(octet_length(value)) OVER (ORDER BY place) - octet_length(value) AS before
    FROM unnest($3::bytea[]) WITH ORDINALITY AS asked (wanted, place), LATERAL (
        SELECT {_COLUMNS} FROM {_RECORDS}
        WHERE database = $1 AND tbl = $2 AND key = wanted LIMIT 1
    ) AS found
) AS sized
"""
_FORGOTTEN = "SELECT version FROM microcosmos.forgotten WHERE database = $1 AND tbl = $2"


def _names(column: str, inside: str, alive: str) -> str:
    """SQL for the names in a column; it seeks each in the primary key, and walks no records."""
    first = f"SELECT {column} FROM {_RECORDS} WHERE {inside}"
    return f"""
    WITH RECURSIVE names (name) AS (
        ({first} ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT ({first} AND {column} > name ORDER BY {column} LIMIT 1)
        FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names, LATERAL (
        {first} AND {column} = name AND (expires IS NULL OR expires > {alive}) LIMIT 1
    ) AS alive
    """


_TABLES = _names("tbl", inside="database = $2", alive="$1")
_DATABASES = _names("database", inside="TRUE", alive="$1")


class PostgresReads:
    """The reading half of a backend; see `Backend`.

    Args:
        fetch: asks the database.
        clock: what expiry goes by.
        name: how errors and ``repr`` call it; without a password.
    """

    def __init__(self, fetch: Fetch, clock: Clock, name: str) -> None:
        self._fetch = fetch
        self._clock = clock
        self._name = name

    def __repr__(self) -> str:
        return self._name

    async def one(self, scope: Scope, key: str) -> Record | None:
        rows = await self._fetch(_ONE, *scope, key.encode())
        now = self._clock.time()
        return _record(now, rows[0]) if rows and is_alive(rows[0][3], now) else None

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        now = self._clock.time()
        if not query.max_bytes:
            rows = await self._page(_COLUMNS, scope, query, now)
            return [_record(now, row) for row in rows]
        found: list[Record] = []
        size = 0
        while size < query.max_bytes:
            rows = await self._sized(scope, query, now, query.max_bytes - size)
            page = [_record(now, row) for row in rows]
            found += page
            if not page or len(found) == query.limit:
                break
            size += sum(len(record.value) for record in page)
            limit = query.limit - len(page) if query.limit else 0
            query = msgspec.structs.replace(query, after=page[-1].key, offset=0, limit=limit)
        return found

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        rows = await self._page("key", scope, query, self._clock.time())
        return [row[0].decode() for row in rows]

    async def count(self, scope: Scope, query: Query) -> int:
        where, values = _where(scope, query, self._clock.time())
        rows = await self._fetch(f"SELECT count(*) FROM {_RECORDS} WHERE {where}", *values)
        return int(rows[0][0])

    async def tables(self, database: str) -> list[str]:
        return sorted(row[0] for row in await self._fetch(_TABLES, self._clock.time(), database))

    async def databases(self) -> list[str]:
        return sorted(row[0] for row in await self._fetch(_DATABASES, self._clock.time()))

    async def version(self) -> int:
        return int((await self._fetch(LAST))[0][0])

    async def changes(self, scope: Scope, prefix: str, after: Cursor) -> Page:
        """The next changes after a place; see `watch.Source`."""
        # First, so that all up to it is seen below; what changes meanwhile comes after it.
        last = await self.version()
        if after == Cursor(last):
            return Page([], after, more=False)
        rows = await self._fetch(_CHANGED, *scope, last, *after)
        # Last, so that nothing was forgotten before it was seen above.
        forgotten = await self._fetch(_FORGOTTEN, *scope)
        check_since(after, last, forgotten[0][0] if forgotten else 0)
        scanned = [Cursor(row[0], row[1]) for row in rows]
        start = prefix.encode()
        wanted = [cursor for cursor in scanned if cursor.key.startswith(start)]
        found, end = await self._changes(scope, wanted)
        if end is None and len(scanned) == MAX_PAGE:
            end = scanned[-1]
        return Page(found, end or Cursor(last), more=end is not None)

    async def _changes(
        self, scope: Scope, cursors: Sequence[Cursor]
    ) -> tuple[list[Change], Cursor | None]:
        """What happened at these places, and where that ends if the values are too many bytes."""
        keys = [cursor.key for cursor in cursors]
        rows = {row[0]: row for row in await self._fetch(_VALUES, *scope, keys)} if keys else {}
        now, end = self._clock.time(), None
        found: list[Change] = []
        for cursor in cursors:
            row = rows.get(cursor.key)
            if row and row[4] == cursor.version and row[1] is None:
                return found, end
            # What has changed once more since comes later.
            if not row or row[4] <= cursor.version:
                alive = row and row[4] == cursor.version and is_alive(row[3], now)
                record = _record(now, row) if alive else None
                found.append(Change(cursor.key.decode(), cursor.version, record))
            end = cursor
        return found, None

    async def _page(self, columns: str, scope: Scope, query: Query, now: float) -> Sequence[Any]:
        where, values = _where(scope, query, now)
        values += [query.limit or None, query.offset]
        order = f"ORDER BY key {query.order} LIMIT ${len(values) - 1} OFFSET ${len(values)}"
        return await self._fetch(f"SELECT {columns} FROM {_RECORDS} WHERE {where} {order}", *values)

    async def _sized(self, scope: Scope, query: Query, now: float, max_bytes: int) -> Sequence[Any]:
        where, values = _where(scope, query, now)
        values += [min(query.limit or _MAX_ROWS, _MAX_ROWS), query.offset, max_bytes]
        last = len(values)
        sql = f"""
        SELECT {_COLUMNS} FROM (
            SELECT {_COLUMNS}, sum(octet_length(value)) OVER (ORDER BY key {query.order})
                - octet_length(value) AS before
            FROM (
                SELECT {_COLUMNS} FROM {_RECORDS} WHERE {where}
                ORDER BY key {query.order} LIMIT ${last - 2} OFFSET ${last - 1}
            ) AS page
        ) AS sized WHERE before < ${last} ORDER BY key {query.order}
        """
        return await self._fetch(sql, *values)


def is_alive(expires: float | None, now: float) -> bool:
    """Whether a record with this expiry is there."""
    return expires is None or expires > now


def _where(scope: Scope, query: Query, now: float) -> tuple[str, list[Any]]:
    values: list[Any] = [*scope, *query.bounds(), now]
    if not query.suffix:
        return _MATCHING, values
    return f"{_MATCHING} {_ENDING}", [*values, query.suffix.encode()]


def _record(now: float, row: Any) -> Record:
    key, value, metadata, expires, version = row
    notes = msgspec.json.decode(metadata, type=dict[str, str]) if metadata else {}
    left = seconds_left(expires, now) if expires is not None else 0
    return Record(key.decode(), value, notes, left, version)
