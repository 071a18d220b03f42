"""Reading from the tables of a SQLite file, through a connection that does nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .backend import Query, Scope, seconds_left
from .interface import Change, Record
from .watch import MAX_PAGE, MAX_PAGE_BYTES, Cursor, Page, check_since

PLACE = "database = ? AND tbl = ? AND key = ?"
"""SQL for one key of a table."""

ONE = f"SELECT value, metadata, expires, version FROM records WHERE {PLACE}"
"""SQL for the record of a key, expired or not."""

_ALIVE = "(expires IS NULL OR expires > :now)"
_MATCHING = f"database = :database AND tbl = :tbl AND key >= :low AND key < :high AND {_ALIVE}"
_ENDING = "substr(key, -length(:suffix)) = :suffix"

_SINCE = """
    database = :database AND tbl = :tbl AND version <= :last AND (version, key) > (:version, :key)
"""
_CHANGED = f"""
SELECT version, key FROM records WHERE {_SINCE}
UNION ALL SELECT version, key FROM deletes WHERE {_SINCE}
ORDER BY version, key LIMIT {MAX_PAGE}
"""
_LAST = "SELECT last FROM revision"
_FORGOTTEN = """
SELECT max(floor, coalesce(
    (SELECT version FROM forgotten WHERE database = ? AND tbl = ?), 0
)) FROM revision
"""


def _names(column: str, inside: str) -> str:
    """SQL for the names in a column; it seeks each in the primary key, and walks no records."""
    return f"""
    WITH RECURSIVE names (name) AS (
        SELECT min({column}) FROM records WHERE {inside}
        UNION ALL
        SELECT (SELECT min({column}) FROM records WHERE {inside} AND {column} > name)
        FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names
    WHERE EXISTS (SELECT 1 FROM records WHERE {inside} AND {column} = name AND {_ALIVE})
    """


_TABLES = _names("tbl", inside="database = :database")
_DATABASES = _names("database", inside="TRUE")


class SQLiteReads:
    """The reading half of a backend; see `Backend`.

    Args:
        connection: used by nobody else.
        clock: what expiry goes by.
        explain: makes an error for people of one of SQLite.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        explain: Callable[[sqlite3.Error], errors.Error],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._explain = explain

    async def one(self, scope: Scope, key: str) -> Record | None:
        rows = self._select(ONE, (*scope, key.encode()))
        if not rows:
            return None
        value, metadata, expires, version = rows[0]
        if metadata is None and expires is None:  # what most are
            return Record(key, value, {}, 0, version)
        now = self._clock.time()
        return _record(now, key, *rows[0]) if is_alive(expires, now) else None

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        now = self._clock.time()
        columns = "key, value, metadata, expires, version"
        rows = self._page(columns, scope, query, now, query.max_bytes)
        return [_record(now, key.decode(), *row) for key, *row in rows]

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return [key.decode() for (key,) in self._page("key", scope, query, self._clock.time())]

    async def count(self, scope: Scope, query: Query) -> int:
        where, values = _where(scope, query, self._clock.time())
        [(number,)] = self._select(f"SELECT count(*) FROM records WHERE {where}", values)
        return int(number)

    async def tables(self, database: str) -> list[str]:
        return self._named(_TABLES, database=database)

    async def databases(self) -> list[str]:
        return self._named(_DATABASES)

    async def version(self) -> int:
        [(last,)] = self._select(_LAST, ())
        return int(last)

    async def changes(self, scope: Scope, prefix: str, after: Cursor) -> Page:
        """The next changes after a place; see `watch.Source`."""
        # First, so that all up to it is seen below; what changes meanwhile comes after it.
        last = await self.version()
        place = {"database": scope[0], "tbl": scope[1], "last": last, **after._asdict()}
        scanned = [Cursor(*row) for row in self._select(_CHANGED, place)]
        # Last, so that nothing was forgotten before it was seen above.
        [(forgotten,)] = self._select(_FORGOTTEN, scope)
        check_since(after, last, forgotten)
        found, size, start = [], 0, prefix.encode()
        for cursor in scanned:
            if not cursor.key.startswith(start):
                continue
            if change := self._change(scope, cursor):
                found.append(change)
                size += len(change.record.value) if change.record else 0
            if size >= MAX_PAGE_BYTES:
                return Page(found, cursor, more=True)
        if len(scanned) == MAX_PAGE:
            return Page(found, scanned[-1], more=True)
        return Page(found, Cursor(last), more=False)

    def _change(self, scope: Scope, cursor: Cursor) -> Change | None:
        """What happened to a key at a version; None if more has since, which comes later."""
        now, key = self._clock.time(), cursor.key.decode()
        rows = self._select(ONE, (*scope, cursor.key))
        version = rows[0][3] if rows else 0
        if version > cursor.version:
            return None
        alive = version == cursor.version and is_alive(rows[0][2], now)
        return Change(key, cursor.version, _record(now, key, *rows[0]) if alive else None)

    def _select(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[Any]:
        try:
            # All rows at once: a statement left halfway would keep its view of the past.
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self._explain(exc) from None

    def _page(
        self, columns: str, scope: Scope, query: Query, now: float, max_bytes: int = 0
    ) -> list[Any]:
        where, values = _where(scope, query, now)
        values.update(limit=query.limit or -1, offset=query.offset)
        order = f"ORDER BY key {query.order} LIMIT :limit OFFSET :offset"
        sql = f"SELECT {columns} FROM records WHERE {where} {order}"
        return self._first(sql, values, max_bytes) if max_bytes else self._select(sql, values)

    def _first(self, sql: str, values: dict[str, Any], max_bytes: int) -> list[Any]:
        rows, size = [], 0
        try:
            cursor = self._connection.execute(sql, values)
            for row in cursor:
                rows.append(row)
                size += len(row[1])
                if size >= max_bytes:
                    break
            cursor.close()
        except sqlite3.Error as exc:
            raise self._explain(exc) from None
        return rows

    def _named(self, sql: str, **values: Any) -> list[str]:
        return [name for (name,) in self._select(sql, {**values, "now": self._clock.time()})]


def is_alive(expires: float | None, now: float) -> bool:
    """Whether a record with this expiry is there."""
    return expires is None or expires > now


def _where(scope: Scope, query: Query, now: float) -> tuple[str, dict[str, Any]]:
    low, high = query.bounds()
    values = {"database": scope[0], "tbl": scope[1], "low": low, "high": high, "now": now}
    if not query.suffix:
        return _MATCHING, values
    return f"{_MATCHING} AND {_ENDING}", {**values, "suffix": query.suffix.encode()}


def _record(
    now: float, key: str, value: bytes, metadata: str | None, expires: float | None, version: int
) -> Record:
    notes = msgspec.json.decode(metadata, type=dict[str, str]) if metadata else {}
    left = seconds_left(expires, now) if expires is not None else 0
    return Record(key, value, notes, left, version)
