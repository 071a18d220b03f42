"""Records in a PostgreSQL database, which many processes may share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any

import asyncpg
import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock

from .backend import Backend, FrozenBackend, Scope, purge_forever, stopped
from .interface import Change, Op, Store
from .postgres_reads import LAST, PostgresReads
from .postgres_server import Server
from .postgres_writer import CHANNEL, Writer
from .table import Table
from .watch import MAX_REMEMBERED, REMEMBERED_FOR, RETRY, Watches

POLL = 5.0
"""Seconds after which watchers look for changes though no notice came."""

_FREEZE = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL idle_in_transaction_session_timeout = 0;
SELECT last FROM microcosmos.revision;
"""

logger = logging.getLogger(__name__)


class PostgresStore(PostgresReads):
    """A store in a database, open for the length of its ``async with``, which gives its table.

    Args:
        url: ``postgres://user:password@host/database``.
        clock: what expiry goes by; those of all processes should agree within a second or so.

    Raises:
        errors.Unavailable: on entering: the database is away, or does not let us in.
        errors.BadRequest: on entering: the URL is none.
        errors.Error: on entering: what is there is too old, too new, or somebody else's.
    """

    def __init__(self, url: str, *, clock: Clock = SYSTEM) -> None:
        self._server = Server(url)
        super().__init__(self._server.fetch, clock, self._server.shown)
        self._watches = Watches(self, clock)
        self._listening: asyncio.Task[None] | None = None
        self._deaf = False

    async def __aenter__(self) -> Store:
        await self._server.open()
        self._writer = Writer(self._server, self._clock)
        self._purger = asyncio.create_task(purge_forever(self._clock, self.purge))
        return Table(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watches.close()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._server.close)
            stack.push_async_callback(self._writer.close)
            if self._listening:
                stack.push_async_callback(stopped, self._listening)
            stack.push_async_callback(stopped, self._purger)

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        return await self._writer.apply(scope, ops)

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        return self._watches.open(scope, prefix, since)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        async with self._server.own() as connection:
            with self._server.explained():
                await connection.execute(_FREEZE)
            reads = PostgresReads(self._server.asking(connection), self._clock, repr(self))
            yield FrozenBackend(reads)

    async def purge(self) -> None:
        """Remove what has expired, and forget deletes, in steps that hold up no write for long."""
        await self._writer.purge(self._clock.time() - REMEMBERED_FOR, MAX_REMEMBERED)

    async def _listen(self) -> None:
        """Wake watchers by notices, and by a look at the version for those that got lost."""
        while True:
            try:
                await self._listen_once()
            except errors.Error as exc:
                if not self._deaf:
                    logger.warning("watchers get no notices for now: %s", exc)
                self._deaf = True
            await asyncio.sleep(RETRY)

    async def _listen_once(self) -> None:
        async with self._server.own() as connection:
            with self._server.explained():
                await self._poll(connection)

    async def _poll(self, connection: asyncpg.Connection) -> None:
        ended, seen = asyncio.Event(), -1
        connection.add_termination_listener(lambda _: ended.set())
        await connection.add_listener(CHANNEL, self._noticed)
        self._deaf = False
        while not ended.is_set():
            last = await connection.fetchval(LAST)
            if last != seen:
                self._watches.tell_all()
            seen = last
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await ended.wait()

    def _noticed(self, *notice: Any) -> None:
        text = notice[-1]
        if text:
            self._watches.tell_tables(msgspec.json.decode(text, type=list[tuple[str, str]]))
        else:
            self._watches.tell_all()
