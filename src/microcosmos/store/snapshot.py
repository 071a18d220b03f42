"""Copies of a store: to a file, from a file, and to another store.

A copy reads the store as of one version where its backend can (`Store.frozen`: memory, SQLite and
PostgreSQL), goes through tables larger than memory, and keeps metadata and the time of expiry;
versions are those of the store that is written to. `restore` and `sync` write only what differs,
in batches, so one that broke off may simply be run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock

from .interface import Delete, Op, Record, Store, Write
from .snapshot_file import Frame, Head, Place, Row, SnapshotReader, SnapshotWriter, path_of

# The indexes of a table are made anew from its records: they are neither copied nor removed.
_INDEX = "$index"

_PAGE = 500
_PAGE_BYTES = 1 << 20


class Copied(msgspec.Struct):
    """What a copy did.

    Attributes:
        tables: with records in them.
        records: read from the source; those that had expired are not counted.
        written: those that the destination did not have like this.
        deleted: from the destination, because the source has them not.
        version: of the source; 0 if it is not known.
        consistent: whether all of it is as of that version.
    """

    tables: int = 0
    records: int = 0
    written: int = 0
    deleted: int = 0
    version: int = 0
    consistent: bool = False


async def snapshot(
    store: Store,
    destination: str,
    *,
    database: str = "",
    platform: bool = False,
    clock: Clock = SYSTEM,
) -> Copied:
    """Copy a store to a file, which appears, or replaces the old one, only when it is whole.

    Args:
        store: any table of it.
        destination: ``file:///absolute/path``.
        database: this one only.
        platform: also the databases of the platform, whose names begin with ``$``.
        clock: what expiry goes by.

    Raises:
        errors.BadRequest: the destination is no such URL.
        errors.Unavailable: the file cannot be written.
    """
    path = path_of(destination)
    async with store.frozen() as view:
        copied = Copied(version=await view.version(), consistent=_is_frozen(view))
        with await asyncio.to_thread(SnapshotWriter, path) as file:
            file.write(Head(copied.version, clock.time(), copied.consistent))
            async for place, rows in _read(view, database, platform, clock):
                copied.tables += 1
                file.write(place)
                async for page in rows:
                    copied.records += len(page)
                    await asyncio.to_thread(file.write, *page)
            await asyncio.to_thread(file.finish)
    copied.written = copied.records
    return copied


async def restore(
    store: Store,
    source: str,
    *,
    database: str = "",
    platform: bool = False,
    exact: bool = False,
    clock: Clock = SYSTEM,
) -> Copied:
    """Write what is in the file of a snapshot; nothing is changed before all of it was checked.

    Args:
        store: any table of the store to write to.
        source: ``file:///absolute/path``.
        database: this one only.
        platform: also the databases of the platform.
        exact: delete what is not in the snapshot, in the databases that are restored.
        clock: what expiry goes by.

    Raises:
        errors.BadRequest: it is no snapshot, is damaged or cut short; or it has records of the
            platform, and neither ``platform`` nor a database was said.
        errors.NotFound: there is no such file, or no such database in it.
    """
    with await asyncio.to_thread(SnapshotReader, path_of(source)) as file:
        found = await asyncio.to_thread(file.check)
        if database and database not in found:
            raise errors.NotFound("store", f"there is no database {database!r} in {file.path}")
        own = [name for name in found if name.startswith("$")]
        if own and not platform and not database:
            way_out = "ask for them too, or name one database"
            raise errors.BadRequest(
                "store", f"{file.path} has the platform's own records; {way_out}"
            )
        frames = file.frames()
        head = next(frames)
        assert isinstance(head, Head)
        copied = Copied(version=head.version, consistent=head.consistent)
        wanted = [database] if database else found
        done: set[tuple[str, str]] = set()
        for place, pages in _tables(frames):
            if place.database in wanted and _INDEX not in place.table:
                done.add((place.database, place.table))
                await _write(store, place, _threaded(pages), copied, exact, clock)
        if exact:
            await _clear(store, wanted, done, copied)
    return copied


async def sync(
    source: Store,
    destination: Store,
    *,
    database: str = "",
    platform: bool = False,
    exact: bool = False,
    clock: Clock = SYSTEM,
) -> Copied:
    """Write to one store what another has.

    Args:
        source: any table of the store to read.
        destination: any table of the store to write to.
        database: this one only.
        platform: also the databases of the platform.
        exact: delete what the source has not, in the databases that it has.
        clock: what expiry goes by.
    """
    async with source.frozen() as view:
        copied = Copied(version=await view.version(), consistent=_is_frozen(view))
        done: set[tuple[str, str]] = set()
        async for place, pages in _read(view, database, platform, clock):
            done.add((place.database, place.table))
            await _write(destination, place, pages, copied, exact, clock)
        if exact:
            wanted = [database] if database else await _databases(view, platform)
            await _clear(destination, wanted, done, copied)
    return copied


Pages = AsyncIterator[Sequence[Row]]


async def _databases(store: Store, platform: bool) -> list[str]:
    return [name for name in await store.databases() if platform or not name.startswith("$")]


async def _read(
    store: Store, database: str, platform: bool, clock: Clock
) -> AsyncIterator[tuple[Place, Pages]]:
    for name in [database] if database else await _databases(store, platform):
        for table in await store.table(database=name).tables():
            if _INDEX not in table:
                yield Place(name, table), _rows(store.table(table, database=name), clock)


async def _rows(table: Store, clock: Clock) -> Pages:
    """The rows of a table in the order of keys, in pages of bounded size."""
    after = ""
    while page := await _page(table, after, clock):
        yield page
        after = page[-1].key


async def _page(table: Store, after: str, clock: Clock) -> list[Row]:
    records = await table.read(limit=_PAGE, max_bytes=_PAGE_BYTES, after=after)
    now = clock.time()
    return [_row(record, now) for record in records]


def _row(record: Record, now: float) -> Row:
    expires = now + record.expiry if record.expiry else None
    return Row(record.key, record.value, record.metadata, expires)


def _tables(frames: Iterable[Frame]) -> Iterator[tuple[Place, Iterator[list[Row]]]]:
    """The tables in a file; the pages of each are to be taken before the next one."""
    rest = iter(frames)
    place = next(rest)
    while isinstance(place, Place):
        following: list[Frame] = []
        yield place, _pages(rest, following)
        while not following:  # rows that nobody wanted
            frame = next(rest)
            if not isinstance(frame, Row):
                following.append(frame)
        place = following[0]


def _pages(frames: Iterator[Frame], following: list[Frame]) -> Iterator[list[Row]]:
    page: list[Row] = []
    size = 0
    for frame in frames:
        if not isinstance(frame, Row):
            following.append(frame)
            break
        page.append(frame)
        size += len(frame.value)
        if len(page) == _PAGE or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


async def _threaded(pages: Iterator[list[Row]]) -> Pages:
    def one() -> list[list[Row]]:
        return [*islice(pages, 1)]

    while page := await asyncio.to_thread(one):
        yield page[0]


async def _write(
    store: Store, place: Place, pages: Pages, copied: Copied, exact: bool, clock: Clock
) -> None:
    """Bring a table to what the pages say, walking both in the order of keys."""
    table = store.table(place.table, database=place.database)
    there = _Walk(table, clock)
    records = 0
    async for page in pages:
        now = clock.time()
        alive = [row for row in page if row.expires is None or row.expires > now]
        records += len(alive)
        ops: list[Op] = []
        for row in alive:
            while exact and (gone := await there.gone_before(row.key)):
                await _batch(table, gone, copied)
            if not _same(await there.at(row.key), row):
                ops.append(_op(row, now))
        await _batch(table, ops, copied)
    while exact and (ops := await there.gone_before("")):
        await _batch(table, ops, copied)
    copied.records += records
    copied.tables += bool(records)


class _Walk:
    """A walk through a table's rows beside another one; what is asked for goes forward only."""

    def __init__(self, table: Store, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._page: list[Row] = []
        self._place = 0
        self._after = ""
        self._last = b""

    async def at(self, key: str) -> Row | None:
        """The row of a key."""
        wanted = key.encode()
        self._last = wanted
        while (row := await self._next()) and row.key.encode() < wanted:
            self._place += 1
        return row if row and row.key == key else None

    async def gone_before(self, key: str) -> list[Op]:
        """Deletes of some rows between the last one asked for and a key, or the end if empty.

        A row that is met only now, but lies before, is one that was written meanwhile.
        """
        found: list[Op] = []
        while (row := await self._next()) and (not key or row.key.encode() < key.encode()):
            if row.key.encode() > self._last:
                found.append(Delete(row.key))
            self._place += 1
            if len(found) == _PAGE:
                break
        return found

    async def _next(self) -> Row | None:
        if self._place == len(self._page):
            self._page, self._place = await _page(self._table, self._after, self._clock), 0
            self._after = self._page[-1].key if self._page else self._after
        return self._page[self._place] if self._page else None


def _same(there: Row | None, row: Row) -> bool:
    if there is None or (there.expires is None) != (row.expires is None):
        return False
    # Within what was lost when the seconds left were told.
    late = abs((there.expires or 0) - (row.expires or 0))
    return late < 1 and (there.value, there.metadata) == (row.value, row.metadata)


def _op(row: Row, now: float) -> Write:
    expiry = max(row.expires - now, 0.001) if row.expires is not None else 0
    return Write(row.key, row.value, expiry, row.metadata)


async def _batch(table: Store, ops: Sequence[Op], copied: Copied) -> None:
    if ops:
        await table.batch(ops)
    copied.written += sum(isinstance(op, Write) for op in ops)
    copied.deleted += sum(isinstance(op, Delete) for op in ops)


async def _clear(
    store: Store, databases: Sequence[str], keep: set[tuple[str, str]], copied: Copied
) -> None:
    for database in databases:
        for name in await store.table(database=database).tables():
            if _INDEX in name:
                continue
            table = store.table(name, database=database)
            while (database, name) not in keep and (page := await table.list(limit=_PAGE)):
                await _batch(table, [Delete(key) for key in page], copied)


def _is_frozen(view: Store) -> bool:
    return bool(getattr(view, "is_frozen", False))
