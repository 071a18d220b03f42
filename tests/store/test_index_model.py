"""Any run of writes, through an index and past it, leaves what looking at every record finds."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Delete, Op, Store, Write, open_store
from microcosmos.store.index import Entry, Index, Indexed

KEYS = st.sampled_from(["a", "a\x00", "b", "é😀", "k" * 1024])
INDEX_KEYS = st.sampled_from([False, True, -1.5, 0, 2, 2.5, "", "x", "x\x00", "xy", "é"])
GOOD = st.lists(INDEX_KEYS, max_size=4)
FOREIGN = st.one_of(GOOD, GOOD, st.just({"bad": 1}))

Found = tuple[Any, str, Any]


def first(value: Any) -> Any:
    """One entry for each of a list; what is no list is refused."""
    if not isinstance(value, list):
        raise TypeError("no list")
    return [Entry(each, place) for place, each in enumerate(value)]


def second(value: Any, key: str) -> Any:
    """One entry of any value."""
    return Entry(len(value), key[:1])


INDEXERS: dict[str, Any] = {"1": first, "2": second}


def entries(version: str, key: str, value: Any) -> list[Found]:
    """What an index has to find of a record."""
    if version == "2":
        return [(len(value), key, key[:1])]
    return [(each, key, at) for at, each in enumerate(value)] if isinstance(value, list) else []


def in_order(found: Found) -> tuple[Any, ...]:
    index_key, key, _ = found
    kind = 0 if isinstance(index_key, bool) else 2 if isinstance(index_key, str) else 1
    return kind, index_key, key


class IndexMachine(RuleBasedStateMachine):
    """One program with an index, and another that writes past it."""

    url = "memory://"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stack = AsyncExitStack()
        self.model: dict[str, tuple[Any, float]] = {}
        self.past: set[str] = set()  # keys that were written past the index
        url = self.url.format(self.folder.name)
        opening = open_store(url, clock=self.clock)
        self.plain: Store = self.runner.run(self.stack.enter_async_context(opening))
        self.version = "1"
        self.start()

    def start(self) -> None:
        async def start() -> Indexed:
            return await Indexed(self.plain, clock=self.clock).__aenter__()

        self.store = self.runner.run(start())
        self.index: Index = self.store.index("it", INDEXERS[self.version], version=self.version)

    def stop(self) -> None:
        self.runner.run(self.store.__aexit__(None, None, None))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.stop()
            self.runner.run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    def note(self, key: str, value: Any, expiry: float, *, past: bool) -> None:
        if value is None:
            self.model.pop(key, None)
        else:
            until = self.clock.time() + expiry if expiry else float("inf")
            self.model[key] = value, until
        (self.past.add if past else self.past.discard)(key)

    @rule(key=KEYS, value=st.one_of(GOOD, st.none()), expiry=st.sampled_from([0, 0, 5]))
    def write(self, key: str, value: Any, expiry: float) -> None:
        self.runner.run(self.store.set(key, value, expiry=expiry))
        self.note(key, value, expiry, past=False)

    @rule(key=KEYS, value=st.one_of(FOREIGN, st.none()), expiry=st.sampled_from([0, 0, 5]))
    def write_past_it(self, key: str, value: Any, expiry: float) -> None:
        self.runner.run(self.plain.set(key, value, expiry=expiry))
        self.note(key, value, expiry, past=True)

    @rule(key=KEYS, more=INDEX_KEYS)
    def modify(self, key: str, more: Any) -> None:
        def change(value: Any) -> Any:
            return [*value, more] if isinstance(value, list) else [more]

        value = self.runner.run(self.store.modify(key, change))
        until = self.model.get(key, (0, float("inf")))[1]
        self.note(key, value, 0, past=False)
        self.model[key] = value, until

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=1, max_size=4, unique=True))
    def batch(self, data: st.DataObject, keys: list[str]) -> None:
        values = [data.draw(st.one_of(GOOD, st.none())) for _ in keys]
        ops: list[Op] = [
            Delete(key) if value is None else Write(key, msgspec.json.encode(value))
            for key, value in zip(keys, values, strict=True)
        ]
        self.runner.run(self.store.batch(ops))
        for key, value in zip(keys, values, strict=True):
            self.note(key, value, 0, past=False)

    @rule(key=KEYS)
    def a_refused_write_changes_nothing(self, key: str) -> None:
        if self.version == "1":
            try:
                self.runner.run(self.store.set(key, {"bad": 1}))
            except errors.BadRequest:
                return
            raise AssertionError("it was not refused")

    @rule(seconds=st.sampled_from([1, 5]))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(seconds))

    @rule(version=st.sampled_from(["1", "2"]), unseen=st.booleans(), key=KEYS, value=FOREIGN)
    def restart(self, version: str, unseen: bool, key: str, value: Any) -> None:
        self.stop()
        if unseen:
            self.write_past_it(key, value, 0)
        if version != self.version:
            # What the version before was not told of, it may not show as its own.
            self.past.update(self.model)
        self.version = version
        self.start()

    @rule()
    def come_to_rest(self) -> None:
        async def rest() -> None:
            await self.index.wait()
            async with asyncio.timeout(60):
                while True:
                    if await self.found() == self.wanted():
                        return
                    await asyncio.sleep(0)

        self.runner.run(rest())
        self.past.clear()

    @rule(
        start=st.one_of(st.none(), INDEX_KEYS),
        end=st.one_of(st.none(), INDEX_KEYS),
        prefix=st.sampled_from(["", "", "x"]),
        order=st.sampled_from(["asc", "desc"]),
        limit=st.integers(1, 4),
    )
    def pages(self, start: Any, end: Any, prefix: str, order: Any, limit: int) -> None:
        self.come_to_rest()

        def within(found: Found) -> bool:
            here = in_order(found)[:2]
            return (
                (start is None or here >= in_order((start, "", 0))[:2])
                and (end is None or here < in_order((end, "", 0))[:2])
                and (not prefix or (isinstance(found[0], str) and found[0].startswith(prefix)))
            )

        wanted = [found for found in self.wanted() if within(found)]

        async def paged() -> list[Found]:
            seen: list[Found] = []
            after = ""
            query = {"prefix": prefix, "start": start, "end": end, "order": order}
            while page := await self.index.read(**query, limit=limit, after=after):
                seen += [(row.index_key, row.key, row.inline_value) for row in page]
                after = page[-1].cursor
                assert len(page) <= limit
            return seen

        assert self.runner.run(paged()) == (wanted if order == "asc" else wanted[::-1])
        count = self.index.count(prefix=prefix, start=start, end=end)
        assert self.runner.run(count) == len(wanted)

    def wanted(self) -> list[Found]:
        now = self.clock.time()
        self.model = {key: kept for key, kept in self.model.items() if kept[1] > now}
        found = [
            each
            for key, (value, _) in self.model.items()
            for each in entries(self.version, key, value)
        ]
        return sorted(found, key=in_order)

    async def found(self) -> list[Found]:
        rows = await self.index.read(values=True)
        for row in rows:
            assert row.value == self.model[row.key][0]
        return [(row.index_key, row.key, row.inline_value) for row in rows]

    @invariant()
    def nothing_old_is_shown_and_nothing_of_its_own_is_missing(self) -> None:
        if not hasattr(self, "index"):
            return
        wanted = self.wanted()
        found = self.runner.run(self.found())
        # While another version's entries serve, they may be of records written past this one.
        if self.past:
            assert [each for each in found if each[1] not in self.past] == [
                each for each in wanted if each[1] not in self.past
            ]
        else:
            assert found == wanted


class SQLiteIndexMachine(IndexMachine):
    url = "sqlite://{}/store.db"


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, database=None
)
TestSQLiteIndexMachine = SQLiteIndexMachine.TestCase
TestSQLiteIndexMachine.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, database=None
)
