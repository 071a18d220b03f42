"""An index as its author reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from microcosmos.base import codec, errors
from microcosmos.store.interface import Order, Store

from . import order as keys
from .entry import Row, Status
from .generation import Failure, Found, Generation, Span, find, find_all
from .keeper import Keeper
from .order import IndexKey

BUILD_WAIT = 5.0
"""Seconds that a question waits for an index that is being built for the first time."""

_PAGE = 100
_TRIES = 10


class Index:
    """Records of a table, found and ordered by what an indexer says of them.

    Made by `Indexed.index`. What it answers is never of a record that is gone or has changed.
    """

    def __init__(self, store: Store, keeper: Keeper) -> None:
        self.id = keeper.id
        self.version = keeper.version
        self._store = store
        self._keeper = keeper

    def __repr__(self) -> str:
        return f"<{self._keeper.title}>"

    async def get(self, index_key: IndexKey, *, values: bool = False) -> list[Row]:
        """The rows of one index key, in the order of their records' keys.

        Args:
            index_key: text, a number or a boolean; 1 and 1.0 are the same.
            values: whether the rows have the records' values too.

        Raises:
            errors.BadRequest: that is no index key.
            errors.Unavailable: the index is still being built; try again later.
        """
        span = Span(prefix=keys.encode(index_key))
        return [row async for row in self._rows(span, values)]

    async def read(
        self,
        *,
        prefix: str = "",
        start: IndexKey | None = None,
        end: IndexKey | None = None,
        limit: int = 0,
        after: str = "",
        order: Order = "asc",
        values: bool = False,
    ) -> list[Row]:
        """The rows of a range, ordered by index key, then by the records' keys.

        Args:
            prefix: how the index keys begin; only text does.
            start: the first index key, itself included; whatever the order, the smaller one.
            end: where the range ends, itself excluded.
            limit: at most so many, 0 for all.
            after: the cursor of the last row of the page before.
            order: ``asc`` or ``desc``.
            values: whether the rows have the records' values too.

        Raises:
            errors.BadRequest: a bound is no index key, or the limit, order or cursor is bad.
            errors.Unavailable: the index is still being built; try again later.
        """
        if not isinstance(limit, int) or limit < 0:
            raise errors.BadRequest("store.index", f"limit is a number, 0 for all, not {limit!r}")
        span = _span(prefix, start, end, after, order)
        rows = []
        async for row in self._rows(span, values, limit or _PAGE):
            rows.append(row)
            if len(rows) == limit:
                break
        return rows

    async def count(
        self, *, prefix: str = "", start: IndexKey | None = None, end: IndexKey | None = None
    ) -> int:
        """How many rows there are; it looks at each of them, so it takes as long as reading."""
        number = 0
        async for _ in self._rows(_span(prefix, start, end), values=False):
            number += 1
        return number

    async def wait(self) -> None:
        """Return once the index is complete."""
        await self._keeper.ready.wait()

    async def status(self) -> Status:
        """How far it is."""
        plan, _ = await self._keeper.catalog.plan(self.id)
        build = plan.versions.get(self.version)
        if build is not None and build.done:
            state = "ready" if build.checked else "checking"
        else:
            state = "building" if plan.serving(self.version) is None else "rebuilding"
        return Status(
            id=self.id,
            version=self.version,
            state=state,
            cursor=build.cursor if build else "",
            skipped=await self._keeper.generation.skipped(),
        )

    async def failures(self, *, limit: int = _PAGE) -> list[Failure]:
        """The first records that the indexer failed on, each with the reason."""
        return await self._keeper.generation.failures(limit)

    async def _rows(self, span: Span, values: bool, page: int = _PAGE) -> AsyncIterator[Row]:
        old = await self._older()
        if old is None:
            async for found in _pages(self._keeper.generation, span, page):
                for row in await self._current(found, values):
                    yield row
            return
        async for one in _merged(old, self._keeper.generation, span, page):
            for row in await self._one_of_two(one, old, values):
                yield row

    async def _older(self) -> Generation | None:
        """The entries that serve while these are not complete; None once they are."""
        ready = self._keeper.ready
        if ready.is_set():
            return None
        plan, _ = await self._keeper.catalog.plan(self.id)
        build = plan.versions.get(self.version)
        if build is not None and build.done and not build.dropping:
            return None
        if (version := plan.serving(self.version)) is not None:
            return Generation(self._keeper.catalog.entries(self.id, version))
        try:
            await asyncio.wait_for(ready.wait(), BUILD_WAIT)
        except TimeoutError:
            at = f", at {build.cursor[:80]!r}" if build and build.cursor else ""
            detail = f"{self._keeper.title} is being built{at}; try again later"
            raise errors.Unavailable("store.index", detail) from None
        return None

    async def _current(self, page: Sequence[Found], values: bool) -> list[Row]:
        records = await find_all(self._store, [found.key for found in page])
        rows = []
        for found in page:
            record = records[found.key]
            if record is None:
                continue
            if record.version == found.of:
                rows.append(_row(found, record.value if values else b""))
            elif (row := await self._again(found, self._keeper.generation, values)) is not None:
                rows.append(row)
        return rows

    async def _again(self, found: Found, generation: Generation, values: bool) -> Row | None:
        """The row of an entry that was for another version of its record, if it is right now.

        Either the record was written between the two reads, or past the index.
        """
        ours = generation is self._keeper.generation
        for _ in range(_TRIES):
            record = await find(self._store, found.key)
            now = await generation.entry(found.name) if record else None
            if record is None or now is None:
                return None
            if now.of == record.version:
                return _row(now, record.value if values else b"")
            if now.of < record.version:
                if not ours:
                    return None
                try:
                    await self._keeper.repair(found.key)
                except errors.Forbidden:  # of who may only read
                    return None
        return None

    async def _one_of_two(self, one: _Either, old: Generation, values: bool) -> list[Row]:
        """The rows of an entry while two versions serve: the older one's, where it is right."""
        if one.old:
            record = await find(self._store, one.found.key)
            if record is not None and record.version == one.found.of:
                return [_row(one.found, record.value if values else b"")]
            row = await self._again(one.found, old, values) if record else None
            return [row] if row else []
        behind, record = await old.behind(one.found.key), await find(self._store, one.found.key)
        if record is None or behind.indexed == record.version:
            return []
        return await self._current([one.found], values)


class _Either(NamedTuple):
    found: Found
    old: bool


async def _pages(generation: Generation, span: Span, size: int) -> AsyncIterator[list[Found]]:
    size = min(size, _PAGE)
    while page := await generation.page(span, size):
        yield page
        if len(page) < size:
            return
        span = Span(
            prefix=span.prefix,
            start=span.start,
            end=span.end,
            after=page[-1].name,
            order=span.order,
        )


async def _merged(
    old: Generation, new: Generation, span: Span, size: int
) -> AsyncIterator[_Either]:
    """The entries of two versions in one order."""
    sources = [_each(old, span, size), _each(new, span, size)]
    heads = [await anext(source, None) for source in sources]
    while heads[0] or heads[1]:
        first, second = heads
        if first and second:
            before = first.name <= second.name if span.order == "asc" else first.name >= second.name
        else:
            before = first is not None
        at = 0 if before else 1
        head = heads[at]
        assert head is not None
        yield _Either(head, before)
        heads[at] = await anext(sources[at], None)


async def _each(generation: Generation, span: Span, size: int) -> AsyncIterator[Found]:
    async for page in _pages(generation, span, size):
        for found in page:
            yield found


def _span(
    prefix: str,
    start: IndexKey | None,
    end: IndexKey | None,
    after: str = "",
    order: Order = "asc",
) -> Span:
    for text, what in ((prefix, "prefix"), (after, "after")):
        if not isinstance(text, str):
            raise errors.BadRequest("store.index", f"{what} is text, not {text!r:.80}")
    if order not in ("asc", "desc"):
        raise errors.BadRequest("store.index", f"order is asc or desc, not {order!r:.80}")
    return Span(
        prefix=keys.prefix(prefix),
        start="" if start is None else keys.encode(start),
        end="" if end is None else keys.encode(end),
        after=after,
        order=order,
    )


def _row(found: Found, value: bytes) -> Row:
    return Row(
        found.key,
        found.index_key,
        codec.decode(found.inline),
        codec.decode(value) if value else None,
        found.name,
    )
