"""The one writer of a process: what waits is written together, in one transaction of PostgreSQL.

A transaction first locks the row with the last version, until it has committed. So versions are
visible in their order, whoever writes, and nobody who has seen one will find an earlier one later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .backend import Scope, check_version
from .interface import Check, Delete, Op, Write
from .postgres_reads import is_alive
from .postgres_server import Server

CHANNEL = "microcosmos"
"""The channel of notices; each carries the tables that changed, or nothing if they are many."""

DOUBT = 10.0
"""Seconds for which a writer asks what became of a commit whose answer was lost."""

Place = tuple[str, str, bytes]
"""A database, a table, a key."""

_AT_ONCE = 1000
_MAX_GROUP = 1000
_MAX_BYTES = 32 * 1024 * 1024
_MAX_NOTICE = 7000  # PostgreSQL takes 7999 bytes
_PAUSE = 0.05
_SIGNED_FOR = 24 * 3600.0  # far longer than a writer can be in doubt

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT last FROM microcosmos.revision FOR UPDATE"
_OURS = "SELECT version FROM microcosmos.writers WHERE id = $1"

_VERSIONS = """
SELECT database, tbl, key, expires, version FROM microcosmos.records
JOIN unnest($1::text[], $2::text[], $3::bytea[]) AS asked (database, tbl, key)
USING (database, tbl, key)
"""
_WRITE = """
INSERT INTO microcosmos.records SELECT * FROM unnest(
    $1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::float8[], $7::int8[]
) ON CONFLICT (database, tbl, key) DO UPDATE SET value = excluded.value,
    metadata = excluded.metadata, expires = excluded.expires, version = excluded.version
"""
_DELETE = """
WITH gone AS (
    DELETE FROM microcosmos.records AS r
    USING unnest($1::text[], $2::text[], $3::bytea[], $4::int8[]) AS asked (d, t, k, version)
    WHERE r.database = asked.d AND r.tbl = asked.t AND r.key = asked.k
    RETURNING asked.version, asked.d, asked.t, asked.k
) INSERT INTO microcosmos.deletes SELECT gone.*, $5::float8 FROM gone
"""
# With its last version each writer leaves a sign that it has committed: the ids of transactions
# are none, since after a crash those that were not committed are given again.
_TELL = f"""
WITH signed AS (
    INSERT INTO microcosmos.writers VALUES ($3, $1, $4)
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, at = excluded.at
) UPDATE microcosmos.revision SET last = $1 RETURNING pg_notify('{CHANNEL}', $2)
"""
_CLEAR = "DELETE FROM microcosmos.writers WHERE at < $1"

_EXPIRED = (
    f"SELECT database, tbl, key FROM microcosmos.records WHERE expires <= $1 LIMIT {_AT_ONCE}"
)
_TOO_OLD = f"""
SELECT max(version) FROM (
    SELECT version, at, row_number() OVER (ORDER BY version) AS place
    FROM (SELECT version, at FROM microcosmos.deletes ORDER BY version LIMIT {_AT_ONCE}) AS oldest
) AS numbered WHERE at <= $1 OR place <= (SELECT count(*) FROM microcosmos.deletes) - $2
"""
_FORGET = """
WITH old AS (DELETE FROM microcosmos.deletes WHERE version <= $1 RETURNING database, tbl, version)
INSERT INTO microcosmos.forgotten
SELECT database, tbl, max(version) FROM old GROUP BY database, tbl
ON CONFLICT (database, tbl) DO UPDATE SET version = excluded.version
"""


class Writer:
    """Writes what it is given in the order of the calls, from `__init__` to `close`.

    Args:
        server: the database.
        clock: what expiry goes by.
    """

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._id = uuid4().hex
        self._serving = asyncio.create_task(self._serve())

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        """Do all of it or nothing, durably, and return the version."""
        places = [(scope[0], op.table or scope[1], op.key.encode()) for op in ops]
        return await self._run(_Job(tuple(ops), places, _future()))

    async def purge(self, before: float, most: int) -> None:
        """Remove what has expired, and forget deletes made ``before``, or when over ``most``."""
        while await self._run(_Job((), [], _future(), expired=True)) == _AT_ONCE:
            pass
        while await self._forget(before, most):
            pass

    async def close(self) -> None:
        """Finish what was asked for, then stop."""
        self._closed = True
        self._wake.set()
        await self._serving

    async def _run(self, job: _Job) -> int:
        if self._closed:
            raise errors.Unavailable("store", "the store is closed")
        self._jobs.append(job)
        self._wake.set()
        result: int = await job.done
        return result

    async def _serve(self) -> None:
        group: list[_Job] = []
        try:
            while self._jobs or not self._closed:
                await self._wake.wait()
                self._wake.clear()
                while self._jobs:
                    group = self._next_group()
                    _tell(group, await self._commit(group))
        finally:
            # Whatever has ended it: nobody waits for ever, and nobody is let in any more.
            self._closed = True
            ended = errors.Unavailable("store", "the store is closed")
            waiting = [*group, *self._jobs]
            _tell(waiting, [ended] * len(waiting))

    def _next_group(self) -> list[_Job]:
        group = [self._jobs.popleft()]
        size = group[0].size
        while self._jobs and len(group) < _MAX_GROUP and size + self._jobs[0].size < _MAX_BYTES:
            size += self._jobs[0].size
            group.append(self._jobs.popleft())
        return group

    async def _commit(self, group: list[_Job]) -> list[Any]:
        try:
            try:
                return await self._transaction(group)
            except errors.ConnectionLost:
                # Nothing was changed, and a connection that idled through a restart of the
                # database is found to be dead only now.
                return await self._transaction(group)
        except _Spoiled as exc:
            if len(group) == 1:
                return [errors.Unavailable("store", exc.detail)]
        except errors.Unavailable as exc:
            return [errors.Unavailable("store", exc.detail) for _ in group]
        except Exception as exc:  # noqa: BLE001 - whatever failed, its callers are told
            return [exc] * len(group)
        # Somebody's work broke the transaction of all: each gets one of its own.
        return [(await self._commit([job]))[0] for job in group]

    async def _transaction(self, group: list[_Job]) -> list[Any]:
        stage, work = "begin", _Work(self._id, self._clock.time())
        outcomes: list[Any] = []
        try:
            async with self._server.connection() as connection:
                await connection.execute(_BEGIN)
                [(work.last,)] = await connection.fetch(_LOCK)
                await work.prepare(connection, group)
                outcomes = [work.attempt(job) for job in group]
                if work.last == work.first:
                    await connection.execute("ROLLBACK")
                    return outcomes
                stage = "write"
                await work.write(connection)
                stage = "commit"
                await connection.execute("COMMIT")
        except errors.Unavailable as exc:
            if stage == "commit":
                await self._settle(work.last, exc)
            elif stage == "write" and not isinstance(exc, errors.ConnectionLost):
                raise _Spoiled("store", exc.detail) from None
            else:
                raise
        return outcomes

    async def _settle(self, version: int, failure: errors.Unavailable) -> None:
        """Return if a transaction, whose commit did not end well, was committed all the same.

        Raises:
            errors.Unavailable: it was not, or the database stays away and nobody knows.
        """
        outcome = "it is not known whether this was written"
        with suppress(TimeoutError):
            async with asyncio.timeout(DOUBT):
                if await self._signed() == version:
                    return
                outcome = "nothing was changed"
        raise errors.Unavailable("store", f"{failure.detail}; {outcome}") from None

    async def _signed(self) -> int | None:
        """The version that we committed last, as soon as the database says so."""
        while True:
            with suppress(errors.Unavailable):
                async with self._server.connection() as connection, connection.transaction():
                    # Until the end of a transaction that may still be on its way.
                    await connection.fetch(_LOCK)
                    version: int | None = await connection.fetchval(_OURS, self._id)
                    return version
            await asyncio.sleep(_PAUSE)

    async def _forget(self, before: float, most: int) -> bool:
        """Forget some deletes, of which there may be more."""
        async with self._server.connection() as connection, connection.transaction():
            await connection.fetch(_LOCK)
            version = await connection.fetchval(_TOO_OLD, before, most)
            if version is not None:
                await connection.execute(_FORGET, version)
            await connection.execute(_CLEAR, self._clock.time() - _SIGNED_FOR)
        return version is not None


class _Spoiled(errors.Unavailable):
    """Some job's work broke the transaction."""


class _Job(NamedTuple):
    ops: tuple[Op, ...]
    places: list[Place]
    done: asyncio.Future[Any]
    expired: bool = False  # remove what has expired, instead

    @property
    def size(self) -> int:
        return sum(len(op.value) for op in self.ops if isinstance(op, Write))


class _Row(NamedTuple):
    value: bytes
    metadata: str | None
    expires: float | None
    version: int


class _Work:
    """What one transaction does: each job sees what those before it did.

    Args:
        writer: who does it.
        now: the time that expiry goes by.

    Attributes:
        first: the last version when it began.
        last: the last version given.
    """

    def __init__(self, writer: str, now: float) -> None:
        self._writer = writer
        self._now = now
        self.last = 0
        self.first = 0
        self._versions: dict[Place, int] = {}
        self._expired: list[Place] = []
        self._rows: dict[Place, _Row] = {}
        self._deletes: dict[Place, int] = {}

    async def prepare(self, connection: asyncpg.Connection, group: Sequence[_Job]) -> None:
        """Look up what the jobs go by."""
        self.first = self.last
        places = {
            place
            for job in group
            for op, place in zip(job.ops, job.places, strict=True)
            if op.version is not None
        }
        if places:
            for *place, expires, version in await connection.fetch(_VERSIONS, *_columns(places, 3)):
                if is_alive(expires, self._now):
                    self._versions[place[0], place[1], place[2]] = version
        if any(job.expired for job in group):
            rows = await connection.fetch(_EXPIRED, self._now)
            self._expired = [(row[0], row[1], row[2]) for row in rows]

    def attempt(self, job: _Job) -> Any:
        """What a job gives: its version or an error; if the latter, nothing of it was done."""
        if job.expired:
            return self._expire()
        try:
            for op, place in zip(job.ops, job.places, strict=True):
                check_version(op, self._versions.get(place, 0))
        except errors.Error as refusal:
            return refusal
        self.last += 1
        for op, place in zip(job.ops, job.places, strict=True):
            if isinstance(op, Write):
                self._put(place, op)
            elif isinstance(op, Delete):
                self._delete(place)
            else:
                assert isinstance(op, Check)
        return self.last

    async def write(self, connection: asyncpg.Connection) -> None:
        """Bring it all to the database, with a notice for those who watch."""
        if self._deletes:
            rows = [(*place, version) for place, version in self._deletes.items()]
            await connection.execute(_DELETE, *_columns(rows, 4), self._now)
        for rows in _chunks((*place, *row) for place, row in self._rows.items()):
            await connection.execute(_WRITE, *_columns(rows, 7))
        await connection.execute(_TELL, self.last, self._notice(), self._writer, self._now)

    def _expire(self) -> int:
        # Not those that a job before has replaced.
        expired = [place for place in self._expired if place not in self._rows]
        if expired:
            self.last += 1
        for place in expired:
            self._delete(place)
        return len(self._expired)

    def _put(self, place: Place, write: Write) -> None:
        metadata = msgspec.json.encode(write.metadata).decode() if write.metadata else None
        expires = self._now + write.expiry if write.expiry else None
        self._deletes.pop(place, None)
        self._rows[place] = _Row(write.value, metadata, expires, self.last)
        self._versions[place] = self.last

    def _delete(self, place: Place) -> None:
        self._rows.pop(place, None)
        self._deletes[place] = self.last
        self._versions.pop(place, None)

    def _notice(self) -> str:
        places = [*self._rows, *self._deletes]
        scopes = sorted({(database, table) for database, table, _ in places})
        text = msgspec.json.encode(scopes)
        return text.decode() if len(text) <= _MAX_NOTICE else ""


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterable[list[tuple[Any, ...]]]:
    """Rows of records, so many at once that a statement is not too large to send."""
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row[3])
        if size >= _MAX_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    table = [*rows]
    return [[row[column] for row in table] for column in range(width)]


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _tell(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.done.done():  # cancelled while it waited
            continue
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
