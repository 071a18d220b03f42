"""Processes that die: what they have of a store and of a log stops at a chosen operation.

A process that is killed does nothing any more. So from its death on, whatever it waits for never
comes, until the test that watched it takes it away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from microcosmos.base import errors
from microcosmos.events.interface import Draft, Log, Receipt
from microcosmos.store import Backend, Change, Op, Query, Record, Scope, Store, Table

T = TypeVar("T")


class Life:
    """How long a process lives.

    Attributes:
        operations: that it has begun.
        dead: whether it is.

    Args:
        until: the operation at which it dies, from 1; 0 is never.
        after: whether that operation is done before.
        turns: how often the others run before each operation.
    """

    def __init__(
        self, until: int = 0, *, after: bool = False, turns: Iterator[int] | None = None
    ) -> None:
        self.operations = 0
        self.dead = asyncio.Event()
        self._until = until
        self._after = after
        self._turns = turns
        self._gone = asyncio.Event()

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something outside of the process, if it comes to it."""
        if self._turns is not None:
            for _ in range(next(self._turns)):
                await asyncio.sleep(0)
        await self._live()
        self.operations += 1
        last = self.operations == self._until
        if last and not self._after:
            self.dead.set()
        await self._live()
        result = await work()
        if last:
            self.dead.set()
        await self._live()
        return result

    async def _live(self) -> None:
        if self.dead.is_set():
            await self._gone.wait()
            raise errors.Unavailable("test", "the process is dead")

    def bury(self) -> None:
        """It is dead, and its remains may be tidied up."""
        self.dead.set()
        self._gone.set()


class MortalBackend:
    """What a process has of a store."""

    def __init__(self, backend: Backend, life: Life) -> None:
        self._backend = backend
        self._life = life

    async def one(self, scope: Scope, key: str) -> Record | None:
        return await self._life.do(lambda: self._backend.one(scope, key))

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        return await self._life.do(lambda: self._backend.records(scope, query))

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        return await self._life.do(lambda: self._backend.keys(scope, query))

    async def count(self, scope: Scope, query: Query) -> int:
        return await self._life.do(lambda: self._backend.count(scope, query))

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        return await self._life.do(lambda: self._backend.apply(scope, ops))

    async def tables(self, database: str) -> list[str]:
        return await self._backend.tables(database)

    async def databases(self) -> list[str]:
        return await self._backend.databases()

    async def version(self) -> int:
        return await self._life.do(lambda: self._backend.version())

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._backend.watch(scope, prefix, since)

    def frozen(self) -> AbstractAsyncContextManager[Backend]:
        return self._backend.frozen()


class MortalLog:
    """What a process has of a log: it publishes.

    Attributes:
        published: the ids that it has published, those that the log knew already too.
    """

    def __init__(self, log: Log, life: Life) -> None:
        self._log = log
        self._life = life
        self.published: list[str] = []

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        receipts = await self._life.do(lambda: self._log.publish(*drafts))
        self.published += [one.id for one in receipts]
        return receipts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def seen_by(store: Store, life: Life) -> Store:
    """A store as a process has it."""
    assert isinstance(store, Table)
    return Table(MortalBackend(store._backend, life), store.scope)


@asynccontextmanager
async def process(work: Awaitable[Any], life: Life) -> AsyncIterator[asyncio.Future[Any]]:
    """Run a process beside the block; at its end the process is killed, if it lives."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        life.bury()
        task.cancel()
        await asyncio.wait([task])
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, errors.Unavailable):
            raise failure


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    """Wait for what has to come."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"it did not come in {seconds} seconds"
        await asyncio.sleep(0.002)
