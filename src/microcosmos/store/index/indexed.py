"""A store whose tables have indexes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, overload

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store.backend import shown
from microcosmos.store.interface import Change, Check, Delete, Op, Order, Record, Store, Write

from .catalog import Catalog
from .entry import Entry, Indexer, Reader
from .generation import find
from .index import Index
from .keeper import Keeper

T = TypeVar("T")

Scope = tuple[str, str]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")


class Indexed:
    """A store (see `Store`) that keeps indexes: each write changes their entries in its batch.

    Entering it begins the work in the background, and leaving it ends that: indexes are built, and
    what others write past them is noticed and repaired. Leave it before the store is closed.
    Tables that `table` gives have the same indexes.

    Args:
        store: where records and entries are; only its promises are used.
        clock: what renewals and removals go by.
    """

    def __init__(self, store: Store, *, clock: Clock = SYSTEM) -> None:
        self._store = store
        self._home = _Home(clock)

    def __repr__(self) -> str:
        return f"<indexed {self._store!r}>"

    async def __aenter__(self) -> Indexed:
        self._home.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._home.stop()

    def index(self, id: str, indexer: Indexer, *, version: str = "1") -> Index:
        """An index of this table; the same for who asks again.

        Args:
            id: its name in the table.
            indexer: gives the entries of a value, or of a value and its key.
            version: of the indexer. With another one the index is built anew in the background;
                the old entries serve until the new ones are complete.

        Raises:
            errors.BadRequest: a bad name or indexer, or another indexer has that id here.
        """
        for text, what in ((id, "index"), (version, "version of an index")):
            if not isinstance(text, str) or not _NAME.fullmatch(text):
                detail = (
                    f"{text!r:.80} is no name of an {what}: use up to 40 letters, digits, . _ -"
                )
                raise errors.BadRequest("store.index", detail.replace("an version", "a version"))
        return self._home.index(self._store, id, indexer, version)

    async def batch(self, ops: Sequence[Op]) -> int:
        ops = list(ops)
        plans = await self._plans(ops)
        if not plans:
            return await self._store.batch(ops)
        while True:
            more = await asyncio.gather(*(plan.ops() for plan in plans))
            try:
                version = await self._store.batch([*ops, *(op for each in more for op in each)])
            except errors.Conflict:
                await self._blame(ops)
                continue  # it was the entries: somebody has changed one of the records meanwhile
            for plan in plans:
                plan.keeper.wrote(plan.op.key, version)
            return version

    async def _plans(self, ops: Sequence[Op]) -> list[_Plan]:
        """What has to be done beside these; indexers are asked once, and may refuse."""
        plans = []
        database, own = self._store.scope
        for op in ops:
            if not isinstance(op, Write | Delete):
                continue
            for keeper in self._home.keepers((database, op.table or own)):
                await keeper.declare()
                entries = None
                if isinstance(op, Write):
                    entries = keeper.reader.entries(op.key, op.value)
                plans.append(_Plan(op, keeper, entries))
        return plans

    async def _blame(self, ops: Sequence[Op]) -> None:
        """Raise the conflict that the caller's own versions have, if they have one."""
        checks = [Check(op.key, op.version, op.table) for op in ops if op.version is not None]
        await self._store.batch(checks)

    async def write(
        self,
        key: str,
        value: bytes,
        *,
        expiry: float = 0,
        metadata: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> int:
        return await self.batch([Write(key, value, expiry, metadata or {}, version)])

    async def delete(self, key: str, *, version: int | None = None) -> None:
        await self.batch([Delete(key, version)])

    async def set(self, key: str, value: Any, *, expiry: float = 0) -> None:
        if value is None:
            await self.delete(key)
        else:
            await self.write(key, codec.encode(value), expiry=expiry)

    async def modify(self, key: str, change: Callable[[Any], Any], type: Any = Any) -> Any:
        if not self._home.keepers(self._store.scope):
            return await self._store.modify(key, change, type)
        while True:
            old = await find(self._store, key) or Record(key)
            value = change(_decoded(old, type))
            with suppress(errors.Conflict):
                if value is None:
                    await self.delete(key, version=old.version)
                else:
                    data = codec.encode(value)
                    await self.batch([Write(key, data, old.expiry, old.metadata, old.version)])
                return value

    # What does not write is the store's own.

    @property
    def scope(self) -> Scope:
        return self._store.scope

    @overload
    async def read(self, key: str) -> Record: ...

    @overload
    async def read(
        self,
        *,
        prefix: str = "",
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
        max_bytes: int = 0,
    ) -> list[Record]: ...

    async def read(self, key: str | None = None, **query: Any) -> Record | list[Record]:
        if key is None:
            records: list[Record] = await self._store.read(**query)
            return records
        record: Record = await self._store.read(key, **query)
        return record

    async def count(
        self, *, prefix: str = "", suffix: str = "", start: str = "", end: str = ""
    ) -> int:
        return await self._store.count(prefix=prefix, suffix=suffix, start=start, end=end)

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, type: type[T]) -> T | None: ...

    async def get(self, key: str, type: Any = Any) -> Any:
        return await self._store.get(key, type)

    async def has(self, key: str) -> bool:
        return await self._store.has(key)

    def all_keys(
        self, *, prefix: str = "", start: str = "", end: str = "", batch_size: int = 100
    ) -> AsyncIterator[str]:
        return self._store.all_keys(prefix=prefix, start=start, end=end, batch_size=batch_size)

    async def version(self) -> int:
        return await self._store.version()

    def watch(
        self, *, prefix: str = "", since: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._store.watch(prefix=prefix, since=since)

    def frozen(self) -> AbstractAsyncContextManager[Store]:
        return self._store.frozen()

    def table(self, name: str = "", *, database: str = "") -> Indexed:
        other = Indexed(self._store.table(name, database=database))
        other._home = self._home
        return other

    def part(self, name: str) -> Store:
        return self._store.part(name)

    async def tables(self) -> list[str]:
        return await self._store.tables()

    async def databases(self) -> list[str]:
        return await self._store.databases()

    # Last, as in `Store`.
    async def list(self, prefix: str = "", **query: Any) -> list[str]:
        return await self._store.list(prefix, **query)


class _Plan(NamedTuple):
    """A write and one of the indexes it changes."""

    op: Write | Delete
    keeper: Keeper
    entries: list[Entry] | None

    async def ops(self) -> list[Op]:
        generation = self.keeper.generation
        old = await generation.behind(self.op.key)
        if self.entries is None or isinstance(self.op, Delete):
            return generation.removal(old)
        return generation.ops(old, self.entries, expiry=self.op.expiry)


class _Home:
    """The indexes of a program, and the tasks that keep them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keepers: dict[Scope, list[Keeper]] = {}
        self._indexes: dict[tuple[Scope, str], tuple[Index, Indexer]] = {}
        self._tasks: dict[Keeper, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def keepers(self, scope: Scope) -> Sequence[Keeper]:
        return self._keepers.get(scope, ())

    def index(self, store: Store, id: str, indexer: Indexer, version: str) -> Index:
        scope = store.scope
        title = f"the index {id} of table {scope[1]}"
        if (scope, id) in self._indexes:
            index, known = self._indexes[scope, id]
            if known is not indexer or index.version != version:
                raise errors.BadRequest("store.index", f"{title} is declared twice, differently")
            return index
        catalog = Catalog(store, self._clock)
        reader = Reader(indexer, title)
        keeper = Keeper(store, catalog, id, version, reader, title, self._clock)
        index = Index(store, keeper)
        self._indexes[scope, id] = index, indexer
        self._keepers.setdefault(scope, []).append(keeper)
        if self._loop is not None:
            self._start(keeper, self._loop)
        return index

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for keepers in self._keepers.values():
            for keeper in keepers:
                self._start(keeper, self._loop)

    async def stop(self) -> None:
        self._loop = None
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(tasks.values())
        for keeper in tasks:
            with suppress(errors.Error):
                await keeper.save()

    def _start(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(keeper.run(), name=keeper.title)
        task.add_done_callback(_report)
        self._tasks[keeper] = task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        logger.error("%s is kept no longer", task.get_name(), exc_info=failure)


def _decoded(record: Record, type: Any) -> Any:
    if not record.version:
        return None
    try:
        return codec.decode(record.value, type)
    except errors.BadRequest as exc:
        detail = f"the value of {shown(record.key)}: {exc.detail}"
        raise errors.BadRequest("store", detail) from None
