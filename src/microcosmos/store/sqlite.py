"""Records in one SQLite file: durable on return, for one process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from microcosmos.base.clock import SYSTEM, Clock

from .backend import Query, Scope, check_version, purge_forever, seconds_left, stopped
from .interface import Op, Record, Store, Write
from .sqlite_file import DatabaseFile
from .sqlite_writer import Work, Writer
from .table import Table

T = TypeVar("T")

_PLACE = "database = ? AND tbl = ? AND key = ?"
_ONE = f"SELECT value, metadata, expires, version FROM records WHERE {_PLACE}"
_REPLACE = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_DELETE = f"DELETE FROM records WHERE {_PLACE}"

_ALIVE = "(expires IS NULL OR expires > :now)"
_MATCHING = f"database = :database AND tbl = :tbl AND key >= :low AND key < :high AND {_ALIVE}"
_ENDING = "substr(key, -length(:suffix)) = :suffix"

_PURGED_AT_ONCE = 1000
_PURGE = f"""
DELETE FROM records WHERE (database, tbl, key) IN (
    SELECT database, tbl, key FROM records WHERE expires <= ? LIMIT {_PURGED_AT_ONCE}
)
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


class SQLiteStore:
    """A store in a file, open for the length of its ``async with``, which gives its default table.

    Reads run on the event loop, writes on one thread that commits those waiting together.

    Args:
        path: the file; made if it is not there.
        clock: what expiry goes by.

    Raises:
        errors.Conflict: on entering: a process has it open.
        errors.Unavailable: it cannot be opened.
        errors.Error: it is damaged, or no store of ours; the detail tells the way out.
    """

    def __init__(self, path: str | Path, *, clock: Clock = SYSTEM) -> None:
        self.path = Path(path)
        self._clock = clock

    def __repr__(self) -> str:
        return f"sqlite://{self.path}"

    async def __aenter__(self) -> Store:
        self._file = DatabaseFile(self.path)
        self._writer = Writer(self._file.writing)
        self._purger = asyncio.create_task(purge_forever(self._clock, self.purge))
        return Table(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await stopped(self._purger)
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self._writer.close()
        finally:
            self._file.close()

    async def one(self, scope: Scope, key: str) -> Record | None:
        rows = self._select(_ONE, (*scope, key.encode()))
        now = self._clock.time()
        if not rows or not _alive(rows[0][2], now):
            return None
        return _record(now, key, *rows[0])

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        now = self._clock.time()
        rows = self._page("key, value, metadata, expires, version", scope, query, now)
        return [_record(now, key.decode(), *row) for key, *row in rows]

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return [key.decode() for (key,) in self._page("key", scope, query, self._clock.time())]

    async def count(self, scope: Scope, query: Query) -> int:
        where, values = _where(scope, query, self._clock.time())
        [(number,)] = self._select(f"SELECT count(*) FROM records WHERE {where}", values)
        return int(number)

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return _apply(connection, scope, ops, self._clock.time())

        return await self._write(work)

    async def tables(self, database: str) -> list[str]:
        return self._named(_TABLES, database=database)

    async def databases(self) -> list[str]:
        return self._named(_DATABASES)

    async def purge(self) -> None:
        """Remove what has expired, in steps that do not hold up other writes for long."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(_PURGE, (self._clock.time(),)).rowcount

        while await self._write(work) == _PURGED_AT_ONCE:
            pass

    async def _write(self, work: Work[T]) -> T:
        try:
            return await self._writer.run(work)
        except sqlite3.Error as exc:
            raise self._file.explain(exc) from None

    def _select(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[Any]:
        try:
            # All rows at once: a statement left halfway would keep its view of the past.
            return self._file.reading.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self._file.explain(exc) from None

    def _page(self, columns: str, scope: Scope, query: Query, now: float) -> list[Any]:
        where, values = _where(scope, query, now)
        values.update(limit=query.limit or -1, offset=query.offset)
        order = f"ORDER BY key {query.order} LIMIT :limit OFFSET :offset"
        return self._select(f"SELECT {columns} FROM records WHERE {where} {order}", values)

    def _named(self, sql: str, **values: Any) -> list[str]:
        return [name for (name,) in self._select(sql, {**values, "now": self._clock.time()})]


def _where(scope: Scope, query: Query, now: float) -> tuple[str, dict[str, Any]]:
    low, high = query.bounds()
    values = {"database": scope[0], "tbl": scope[1], "low": low, "high": high, "now": now}
    if not query.suffix:
        return _MATCHING, values
    return f"{_MATCHING} AND {_ENDING}", {**values, "suffix": query.suffix.encode()}


def _alive(expires: float | None, now: float) -> bool:
    return expires is None or expires > now


def _record(
    now: float, key: str, value: bytes, metadata: str | None, expires: float | None, version: int
) -> Record:
    notes = msgspec.json.decode(metadata, type=dict[str, str]) if metadata else {}
    left = seconds_left(expires, now) if expires is not None else 0
    return Record(key, value, notes, left, version)


def _apply(connection: sqlite3.Connection, scope: Scope, ops: Sequence[Op], now: float) -> int:
    places = [(scope[0], op.table or scope[1], op.key.encode()) for op in ops]
    for op, place in zip(ops, places, strict=True):
        if op.version is not None:
            check_version(op, _version(connection, place, now))
    version = _next_version(connection)
    for op, place in zip(ops, places, strict=True):
        if isinstance(op, Write):
            connection.execute(_REPLACE, (*place, *_columns(op, now), version))
        else:
            connection.execute(_DELETE, place)
    return version


def _columns(write: Write, now: float) -> tuple[bytes, str | None, float | None]:
    metadata = msgspec.json.encode(write.metadata).decode() if write.metadata else None
    return write.value, metadata, now + write.expiry if write.expiry else None


def _version(connection: sqlite3.Connection, place: tuple[str, str, bytes], now: float) -> int:
    for _, _, expires, version in connection.execute(_ONE, place).fetchall():
        if _alive(expires, now):
            return int(version)
    return 0


def _next_version(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE revision SET last = last + 1")
    [(version,)] = connection.execute("SELECT last FROM revision").fetchall()
    return int(version)
