"""Records in one SQLite file: durable on return, for one process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from microcosmos.base.clock import SYSTEM, Clock

from .backend import Backend, FrozenBackend, Scope, check_version, purge_forever, stopped
from .interface import Change, Check, Op, Store, Write
from .sqlite_file import DatabaseFile
from .sqlite_reads import ONE, PLACE, SQLiteReads, is_alive
from .sqlite_writer import Work, Writer
from .table import Table
from .watch import MAX_REMEMBERED, REMEMBERED_FOR, Watches

T = TypeVar("T")

Place = tuple[str, str, bytes]
"""A database, a table, a key."""

_REPLACE = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_DELETE = f"DELETE FROM records WHERE {PLACE}"
_REMEMBER = "INSERT INTO deletes VALUES (?, ?, ?, ?, ?)"

_AT_ONCE = 1000
_EXPIRED = f"SELECT database, tbl, key FROM records WHERE expires <= ? LIMIT {_AT_ONCE}"
# The last version of those, among the oldest deletes, that are too old or too many.
_TOO_OLD = f"""
SELECT max(version) FROM (
    SELECT version, at, row_number() OVER (ORDER BY version) AS place
    FROM (SELECT version, at FROM deletes ORDER BY version LIMIT {_AT_ONCE})
) WHERE at <= ? OR place <= (SELECT count(*) FROM deletes) - ?
"""
_FORGET = """
INSERT OR REPLACE INTO forgotten
SELECT database, tbl, max(version) FROM deletes WHERE version <= ? GROUP BY database, tbl
"""


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
        reads = SQLiteReads(self._file.reading, self._clock, self._file.explain)
        self.one, self.records, self.keys = reads.one, reads.records, reads.keys
        self.count, self.version = reads.count, reads.version
        self.tables, self.databases = reads.tables, reads.databases
        self._watches = Watches(reads, self._clock)
        self._purger = asyncio.create_task(purge_forever(self._clock, self.purge))
        return Table(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watches.close()
        try:
            await stopped(self._purger)
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self._writer.close()
        finally:
            self._file.close()

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        places = [(scope[0], op.table or scope[1], op.key.encode()) for op in ops]

        def work(connection: sqlite3.Connection) -> int:
            return _apply(connection, ops, places, self._clock.time())

        return await self._write(work, after=lambda _: self._watches.tell(places))

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watches.open(scope, prefix, since)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        with closing(self._file.view()) as connection:
            yield FrozenBackend(SQLiteReads(connection, self._clock, self._file.explain))

    async def purge(self) -> None:
        """Remove what has expired, and forget deletes, in steps that hold up no write for long."""

        def expire(connection: sqlite3.Connection) -> list[Place]:
            return _expire(connection, self._clock.time())

        def forget(connection: sqlite3.Connection) -> bool:
            return _forget(connection, self._clock.time() - REMEMBERED_FOR)

        def tell(places: list[Place]) -> None:
            self._watches.tell(places)

        expired = await self._write(expire, tell)
        while len(expired) == _AT_ONCE:
            expired = await self._write(expire, tell)
        while await self._write(forget):
            pass

    async def _write(self, work: Work[T], after: Callable[[T], None] | None = None) -> T:
        try:
            return await self._writer.run(work, after)
        except sqlite3.Error as exc:
            raise self._file.explain(exc) from None


def _apply(
    connection: sqlite3.Connection, ops: Sequence[Op], places: Sequence[Place], now: float
) -> int:
    for op, place in zip(ops, places, strict=True):
        if op.version is not None:
            check_version(op, _version(connection, place, now))
    version = _next_version(connection)
    for op, place in zip(ops, places, strict=True):
        if isinstance(op, Write):
            connection.execute(_REPLACE, (*place, *_columns(op, now), version))
        elif not isinstance(op, Check):
            _delete(connection, place, version, now)
    return version


def _expire(connection: sqlite3.Connection, now: float) -> list[Place]:
    places: list[Place] = connection.execute(_EXPIRED, (now,)).fetchall()
    if places:
        version = _next_version(connection)
        for place in places:
            _delete(connection, place, version, now)
    return places


def _forget(connection: sqlite3.Connection, before: float) -> bool:
    """Forget some deletes, of which there may be more."""
    [(version,)] = connection.execute(_TOO_OLD, (before, MAX_REMEMBERED)).fetchall()
    if version is None:
        return False
    connection.execute(_FORGET, (version,))
    connection.execute("DELETE FROM deletes WHERE version <= ?", (version,))
    return True


def _delete(connection: sqlite3.Connection, place: Place, version: int, now: float) -> None:
    if connection.execute(_DELETE, place).rowcount:
        connection.execute(_REMEMBER, (version, *place, now))


def _columns(write: Write, now: float) -> tuple[bytes, str | None, float | None]:
    metadata = msgspec.json.encode(write.metadata).decode() if write.metadata else None
    return write.value, metadata, now + write.expiry if write.expiry else None


def _version(connection: sqlite3.Connection, place: Place, now: float) -> int:
    for _, _, expires, version in connection.execute(ONE, place).fetchall():
        if is_alive(expires, now):
            return int(version)
    return 0


def _next_version(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE revision SET last = last + 1")
    [(version,)] = connection.execute("SELECT last FROM revision").fetchall()
    return int(version)
