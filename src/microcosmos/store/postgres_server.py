"""The way to a PostgreSQL database: connections, their settings, our schema, failures explained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg

from microcosmos.base import errors, urls

CONNECTIONS = 8
"""The most connections of one process for reading and writing; watching takes one more."""

CONNECT_TIMEOUT = 5.0
"""Seconds that connecting to PostgreSQL, or waiting for a free connection to it, may take."""

STATEMENT_TIMEOUT = 30.0
"""Seconds that one statement, or the wait for another process's commit, may take."""

IDLE_TIMEOUT = 15.0
"""Seconds after which PostgreSQL ends the transaction of a process that it hears nothing from."""

OLDEST = 13
"""The oldest PostgreSQL that will do; those before have had no fixes for long."""

_FORMAT = 1
_MARK = 0x4D435354

_SETTINGS = {
    "application_name": "microcosmos",
    "statement_timeout": f"{STATEMENT_TIMEOUT * 1000:.0f}",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT * 1000:.0f}",
    "tcp_keepalives_idle": "30",
    # Every question here is answered in order by an index. A planner that has not yet seen the
    # statistics of a table would rather read and sort all of it.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# Whoever turned this off for speed did not mean records that we acknowledge.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""

PLACE = "(database || E'\\x01' || tbl)"
"""SQL for a table, as the indexes of changes name it; no name has that character.

They are on an expression so that whoever asks for keys is answered by the primary key: a planner
without statistics takes any index that begins with the same columns, and reads all of the table.
"""

# Names go by their code points, keys are bytes. Values are not compressed: that costs more time
# than it saves, and most are small.
_SCHEMA = f"""
CREATE SCHEMA microcosmos;
SET LOCAL search_path = microcosmos;
CREATE TABLE records (
    database text COLLATE "C" NOT NULL,
    tbl text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    metadata text,
    expires double precision,
    version bigint NOT NULL,
    PRIMARY KEY (database, tbl, key) INCLUDE (expires)
);
ALTER TABLE records ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE INDEX records_expires ON records (expires) WHERE expires IS NOT NULL;
CREATE INDEX records_version ON records ({PLACE}, version, key);
CREATE TABLE deletes (
    version bigint NOT NULL,
    database text COLLATE "C" NOT NULL,
    tbl text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    at double precision NOT NULL,
    PRIMARY KEY (version, database, tbl, key)
);
CREATE INDEX deletes_table ON deletes ({PLACE}, version, key);
CREATE TABLE forgotten (
    database text COLLATE "C" NOT NULL,
    tbl text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (database, tbl)
);
CREATE TABLE revision (format int NOT NULL, last bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO revision VALUES ({_FORMAT}, 0);
CREATE TABLE writers (
    id text PRIMARY KEY,
    version bigint NOT NULL,
    at double precision NOT NULL
) WITH (fillfactor = 10);
COMMENT ON SCHEMA microcosmos IS 'records of microcosmos; made and changed by it alone';
"""

_GRACE = 5.0  # after which a statement ends here that the server did not end itself

_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    # What asyncpg says when the server's farewell has come, and the end of the line not yet.
    asyncpg.InternalClientError,
)
_FAILURES = (*_LOST, asyncpg.PostgresError)


class Server:
    """One database of a PostgreSQL server.

    Args:
        url: ``postgres://user:password@host:port/database``, with the parameters of libpq.

    Raises:
        errors.BadRequest: asyncpg cannot read the URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.shown = urls.masked(url)
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connect, and make our schema if it is not there.

        Raises:
            errors.Unavailable: the database is away, or does not let us in.
            errors.BadRequest: the URL is none.
            errors.Error: what is there is too old, too new or somebody else's.
        """
        async with self.own() as connection:
            with self.explained():
                await self._prepare(connection)
        self._pool = asyncpg.create_pool(
            connect=self._connect, min_size=0, max_size=CONNECTIONS, reset=_nothing
        )
        await self._pool

    async def close(self) -> None:
        """Close every connection that `connection` gave."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._pool.close()
        except _FAILURES:
            self._pool.terminate()

    @asynccontextmanager
    async def own(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for one use, closed at the end; what fails inside is not `explained`.

        Raises:
            errors.Unavailable: the database is away, or does not let us in.
            errors.BadRequest: the URL is none.
        """
        with self.explained():
            try:
                connection = await self._connect()
            except (ValueError, asyncpg.ClientConfigurationError):
                # Not what they say: it may show parts of a password.
                form = "postgres://user:password@host:5432/database"
                raise errors.BadRequest("store", f"{self.shown} is no URL like {form}") from None
        try:
            yield connection
        finally:
            with suppress(*_FAILURES):
                await connection.close(timeout=CONNECT_TIMEOUT)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of those kept open; what fails inside is explained.

        Raises:
            errors.ConnectionLost: the database went away.
            errors.Unavailable: another failure of the database.
        """
        if self._pool is None:
            raise errors.Unavailable("store", f"{self.shown}: the store is closed")
        with self.explained():
            connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT)
            try:
                yield connection
            except _LOST:
                with suppress(asyncpg.InterfaceError):  # it knows, and has left the pool
                    connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    async def fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        """The rows of a question, asked once more when the connection was lost by then."""
        try:
            return await self._fetch(sql, values)
        except errors.ConnectionLost:
            return await self._fetch(sql, values)

    def asking(self, connection: asyncpg.Connection) -> Callable[..., Awaitable[Sequence[Any]]]:
        """Like `fetch`, by one connection."""

        async def fetch(sql: str, *values: Any) -> Sequence[Any]:
            with self.explained():
                rows: Sequence[Any] = await connection.fetch(sql, *values)
                return rows

        return fetch

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise the errors that failures of the database inside mean for people.

        Raises:
            errors.ConnectionLost: the database went away.
            errors.Unavailable: another failure of the database.
        """
        try:
            yield
        except _FAILURES as exc:
            raise self._explain(exc) from None

    def _explain(self, exc: BaseException) -> errors.Error:
        said = str(exc).strip().splitlines() or [type(exc).__name__]
        detail = f"{self.shown}: {said[0]}"
        if isinstance(exc, TimeoutError):
            return errors.Unavailable("store", f"{self.shown}: no answer in time")
        if isinstance(exc, asyncpg.InsufficientPrivilegeError):
            detail += "; grant its user the right to it"
        if isinstance(exc, _LOST) or _ended(exc):
            return errors.ConnectionLost("store", detail)
        return errors.Unavailable("store", detail)

    async def _fetch(self, sql: str, values: Sequence[Any]) -> Sequence[Any]:
        async with self.connection() as connection:
            rows: Sequence[Any] = await connection.fetch(sql, *values)
            return rows

    async def _connect(self, *_: Any, **__: Any) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT,
            command_timeout=STATEMENT_TIMEOUT + _GRACE,
            server_settings=_SETTINGS,
        )
        try:
            await connection.execute(_DURABLE)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        version = connection.get_server_version()
        if version.major < OLDEST:
            raise self._refusal(f"is PostgreSQL {version.major}", f"use {OLDEST} or later")
        async with connection.transaction():
            # Others may be here at the same moment.
            await connection.execute(f"SELECT pg_advisory_xact_lock({_MARK})")
            if await connection.fetchval("SELECT to_regnamespace('microcosmos') IS NULL"):
                await connection.execute(_SCHEMA)
                return
            if await connection.fetchval("SELECT to_regclass('microcosmos.revision') IS NULL"):
                way_out = "name another database"
                raise self._refusal("has a schema microcosmos of some other program", way_out)
            found = await connection.fetchval("SELECT format FROM microcosmos.revision")
        if found > _FORMAT:
            raise self._refusal("was written by a newer version of this program", "update this one")

    def _refusal(self, what: str, way_out: str) -> errors.Error:
        return errors.Error("store", f"{self.shown} {what}; {way_out}", code=500)


def _ended(exc: BaseException) -> bool:
    """Whether the server is on its way down or up, or has ended the connection."""
    # A statement that took too long is of the same class, and the connection lives.
    halted = isinstance(exc, asyncpg.OperatorInterventionError)
    idle = isinstance(exc, asyncpg.IdleInTransactionSessionTimeoutError)
    return idle or (halted and not isinstance(exc, asyncpg.QueryCanceledError))


async def _nothing(_: Any) -> None:
    """Instead of a round trip that resets what we never set."""
