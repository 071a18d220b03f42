"""Keeps one index right in the background: builds it, and repairs what was written past it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import Clock
from microcosmos.store.backend import shown
from microcosmos.store.interface import Change, Check, Op, Record, Store, Write

from .catalog import RENEW, Build, Catalog
from .entry import Reader
from .generation import Behind, Generation, find

PAGE = 250
"""Records that a rebuild reads, and indexes in one batch, at once."""

PAGE_BYTES = 1024 * 1024
"""Bytes of values after which such a page ends."""

MAX_BATCH = 2000
"""Operations after which such a batch ends; the entries of one record are never divided."""

PAUSE = 1.0
"""Seconds from a failure of the store to the next try."""

_REPAIRS = 32
_REMEMBERED = 10_000

logger = logging.getLogger(__name__)


class Keeper:
    """One version of an index, as one program keeps it.

    Args:
        store: the table that is indexed.
        catalog: of that table.
        id: of the index.
        version: of its indexer.
        reader: calls the indexer.
        title: names the index in errors and logs.
        clock: what renewals go by.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        id: str,
        version: str,
        reader: Reader,
        title: str,
        clock: Clock,
    ) -> None:
        self.id = id
        self.version = version
        self.title = title
        self.reader = reader
        self.generation = Generation(catalog.entries(id, version))
        self.ready = asyncio.Event()
        self.catalog = catalog
        self._store = store
        self._clock = clock
        self._renewed = float("-inf")
        self._seen = 0
        self._ours: OrderedDict[str, int] = OrderedDict()

    async def declare(self) -> None:
        """Say that the index is used, if it was not said lately; nobody drops it then."""
        if self._clock.monotonic() - self._renewed < RENEW:
            return
        build = await self.catalog.declare(self.id, self.version)
        self._renewed = self._clock.monotonic()
        if build.done:
            self.ready.set()
        else:
            self.ready.clear()

    def wrote(self, key: str, version: int) -> None:
        """Remember a write that came with its entries: there is nothing to repair."""
        self._ours[key] = version
        if len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)

    async def repair(self, key: str) -> None:
        """Make a record's entries those of its value, whoever wrote it."""
        while True:
            record, old = await find(self._store, key), await self.generation.behind(key)
            if ops := self._repairs(key, record, old):
                try:
                    await self._store.batch(ops)
                except errors.Conflict:
                    continue
            return

    async def run(self) -> None:
        """Keep it, until cancelled."""
        said = ""
        while True:
            try:
                await self._keep()
            except* errors.Error as group:
                if said != (said := _first(group)):
                    logger.warning("%s waits: %s", self.title, said)
            if _cancelled():
                return
            await self._clock.sleep(PAUSE)

    async def save(self) -> None:
        """Say that the index is used, and which changes the next program need not look at.

        Raises:
            errors.Conflict: it has to be compared with its table.
        """
        build = await self.catalog.declare(self.id, self.version)
        self._renewed = self._clock.monotonic()
        if not build.checked:
            raise errors.Conflict("store.index", "it was removed, or its changes were not kept")
        if self._seen > build.seen:
            await self._change(seen=self._seen)

    async def _keep(self) -> None:
        self._renewed = float("-inf")
        await self.declare()
        while not _cancelled():
            plan, _ = await self.catalog.plan(self.id)
            build = plan.versions.get(self.version) or Build(declared=0)
            try:
                await self._follow(build)
            except* errors.Conflict as lost:
                logger.info("%s is compared with its table: %s", self.title, _first(lost))
                await self._change(seen=await self._store.version(), checked=False, cursor="")

    async def _follow(self, build: Build) -> None:
        self._seen = build.seen
        async with self._store.watch(since=build.seen) as changes, asyncio.TaskGroup() as group:
            group.create_task(self._look_after())
            await self._repair_all(changes, group)

    async def _repair_all(self, changes: AsyncIterator[Change], group: asyncio.TaskGroup) -> None:
        free, busy = asyncio.Semaphore(_REPAIRS), set[asyncio.Task[None]]()
        async for change in changes:
            if not busy:
                # All before this one is done; others of its own batch may not be.
                self._seen = max(self._seen, change.version - 1)
            if self._ours.pop(change.key, None) != change.version:
                await free.acquire()
                task = group.create_task(self._repaired(change.key, free))
                busy.add(task)
                task.add_done_callback(busy.discard)

    async def _repaired(self, key: str, free: asyncio.Semaphore) -> None:
        try:
            await self.repair(key)
        except (errors.BadRequest, errors.TooLarge) as exc:
            logger.warning("%s leaves %s out: %s", self.title, shown(key), exc.detail)
        finally:
            free.release()

    async def _look_after(self) -> None:
        await self._check()
        while True:
            await self.catalog.drop_orphans()
            await self._clock.sleep(RENEW)
            await self.save()

    async def _check(self) -> None:
        """Compare every record with its entries, from where somebody has come to."""
        while True:
            plan, current = await self.catalog.plan(self.id)
            build = plan.versions.get(self.version)
            if build is None or build.dropping:
                raise errors.Conflict("store.index", "it was removed")
            if build.checked:
                self.ready.set()
                return
            page = await self._store.read(after=build.cursor, limit=PAGE, max_bytes=PAGE_BYTES)
            if page:
                await self._index(page)
                now = self._clock.time()
                build = msgspec.structs.replace(build, cursor=page[-1].key, declared=now)
            else:
                await self._remove_gone()
                finished = build.finished or self._clock.time()
                build = msgspec.structs.replace(
                    build, done=True, finished=finished, checked=True, cursor=""
                )
            value = codec.encode(plan.replaced(self.version, build))
            with contextlib.suppress(errors.Conflict):
                # Another replica was faster: this one goes on where that one is.
                await self._store.batch(
                    [Write(self.id, value, version=current, table=self.catalog.name)]
                )

    async def _index(self, page: list[Record]) -> None:
        behind = await self.generation.behind_all([record.key for record in page])
        ops: list[Op] = []
        keys: list[str] = []
        size = counted = 0
        for record in page:
            ops += self._repairs(record.key, record, behind[record.key])
            keys.append(record.key)
            size += sum(len(op.value) for op in ops[counted:] if isinstance(op, Write))
            counted = len(ops)
            if len(ops) >= MAX_BATCH or size >= PAGE_BYTES or record is page[-1]:
                await self._write(ops, keys)
                ops, keys, size, counted = [], [], 0, 0

    async def _write(self, ops: list[Op], keys: list[str]) -> None:
        try:
            if ops:
                await self._store.batch(ops)
        except (errors.Conflict, errors.BadRequest, errors.TooLarge):
            # Somebody has written one of them meanwhile, or one is too large: each by itself.
            for key in keys:
                await self._repaired(key, asyncio.Semaphore())

    async def _remove_gone(self) -> None:
        after = ""
        while True:
            keys, after = await self.generation.indexed_keys(after, PAGE)
            if not keys:
                return
            # Names are in the order of keys, but for those of very long ones.
            first, last = min(keys), max(keys)
            there = await self._store.list(start=first, end=last + "\x00", limit=2 * PAGE)
            for key in sorted({*keys} - {*there}):
                await self.repair(key)

    def _repairs(self, key: str, record: Record | None, old: Behind) -> list[Op]:
        current = record.version if record else 0
        if old.indexed == current:
            return []
        # Unless the record is written meanwhile: the writer has seen to its entries then.
        return [*self._entries(record, old), Check(key, current)]

    def _entries(self, record: Record | None, old: Behind) -> list[Op]:
        if record is None:
            return self.generation.removal(old)
        of, expiry = record.version, record.expiry
        try:
            entries = self.reader.entries(record.key, record.value)
        except (errors.BadRequest, errors.TooLarge) as exc:
            logger.warning("%s; it is left out", exc.detail)
            return self.generation.failure(old, exc.detail, of=of, expiry=expiry)
        return self.generation.ops(old, entries, of=of, expiry=expiry)

    async def _change(self, **fields: Any) -> None:
        def changed(build: Build | None) -> Build:
            build = build or Build(declared=self._clock.time())
            return msgspec.structs.replace(build, **fields)

        await self.catalog.change(self.id, self.version, changed)


def _cancelled() -> bool:
    """Whether this task shall end: a task group that fails just then says only why it failed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(group: BaseExceptionGroup[errors.Error]) -> str:
    """The text of the first error in a group."""
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return str(one)
