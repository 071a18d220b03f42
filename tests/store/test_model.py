"""Any run of operations does on every backend what it does on a dict."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar, NamedTuple, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Change, Check, Delete, Op, Store, Write, open_store

from .conformance import has_happened
from .postgres import Postgres

KEYS = st.text("aB%_\x00é😀", min_size=1, max_size=3)
PARTS = st.text("aB%_\x00é😀", max_size=2)
EXPIRIES = st.sampled_from([0, 0, 5, 50])
# How a version is named: not, the one that is there, or one that is not.
VERSIONS = st.sampled_from(["any", "any", "right", "wrong"])


class Entry(NamedTuple):
    value: bytes
    expires: float
    version: int


class StoreMachine(RuleBasedStateMachine):
    """Stores in memory and in a file."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stack = AsyncExitStack()
        self.model: dict[str, Entry] = {}
        self.stores = self.runner.run(self.opened())

    async def urls(self) -> list[str]:
        return ["memory://", f"sqlite://{self.folder.name}/store.db"]

    async def opened(self) -> list[Store]:
        urls = await self.urls()
        return [
            await self.stack.enter_async_context(open_store(url, clock=self.clock)) for url in urls
        ]

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    def all(self, ask: Callable[[Store], Awaitable[Any]]) -> Any:
        """What all stores answer, which must be the same; errors are answers too."""

        async def answer(store: Store) -> Any:
            try:
                return await ask(store)
            except errors.Error as exc:
                return type(exc), exc.detail

        first, *others = (self.runner.run(answer(store)) for store in self.stores)
        assert [first] * len(others) == others
        return first

    def named(self, key: str, how: str) -> int | None:
        version = self.model[key].version if key in self.model else 0
        return None if how == "any" else version + (how == "wrong")

    def matching(self, prefix: str, suffix: str, start: str, end: str) -> list[str]:
        keys = [key for key in sorted(self.model) if start <= key and (not end or key < end)]
        return [key for key in keys if key.startswith(prefix) and key.endswith(suffix)]

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=1, max_size=4, unique=True))
    def batch(self, data: st.DataObject, keys: list[str]) -> None:
        ops: list[Op] = []
        refused = False
        for key in keys:
            how = data.draw(VERSIONS)
            refused |= how == "wrong"
            version = self.named(key, how)
            kind = data.draw(st.sampled_from([Write, Delete, Check]))
            if kind is Write:
                ops.append(Write(key, key.encode(), data.draw(EXPIRIES), {}, version))
            elif kind is Delete:
                ops.append(Delete(key, version))
            else:
                ops.append(Check(key, self.named(key, "right") if version is None else version))
        answer = self.all(lambda store: store.batch(ops))
        assert refused == (not isinstance(answer, int))
        if not refused:
            self.do(ops, answer)

    def do(self, ops: list[Op], version: int) -> None:
        for op in ops:
            if isinstance(op, Write):
                expires = self.clock.time() + op.expiry if op.expiry else float("inf")
                self.model[op.key] = Entry(op.value, expires, version)
            elif isinstance(op, Delete):
                self.model.pop(op.key, None)

    @rule(key=KEYS, value=st.integers(0, 3))
    def modify(self, key: str, value: int) -> None:
        self.all(lambda store: store.delete(key))
        answer = self.all(lambda store: store.modify(key, lambda old: value or old))
        assert answer == (value or None)
        self.model.pop(key, None)
        if value:
            version = self.all(lambda store: store.read(key)).version
            self.model[key] = Entry(str(value).encode(), float("inf"), version)

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(seconds))
        # The purge that this wakes takes a version: no write may be faster in one of them.
        for store in self.stores:
            self.runner.run(cast(Any, store)._backend.purge())
        now = self.clock.time()
        self.model = {key: entry for key, entry in self.model.items() if entry.expires > now}

    @rule(
        prefix=PARTS,
        suffix=PARTS,
        start=PARTS,
        end=PARTS,
        limit=st.integers(0, 4),
        offset=st.integers(0, 3),
        order=st.sampled_from(["asc", "desc"]),
        after=PARTS,
    )
    def pages(self, prefix: str, suffix: str, limit: int, offset: int, **rest: Any) -> None:
        order, after, start, end = rest["order"], rest["after"], rest["start"], rest["end"]
        keys = self.matching(prefix, suffix, start, end)
        if after:
            keys = [key for key in keys if (key > after if order == "asc" else key < after)]
        keys = keys if order == "asc" else keys[::-1]
        keys = keys[offset : offset + limit if limit else None]
        query = {"suffix": suffix, "limit": limit, "offset": offset, **rest}
        assert self.all(lambda store: store.list(prefix, **query)) == keys
        records = self.all(lambda store: store.read(prefix=prefix, **query))
        assert [record.key for record in records] == keys

    @rule(prefix=PARTS, suffix=PARTS, start=PARTS, end=PARTS)
    def count(self, **query: str) -> None:
        answer = self.all(lambda store: store.count(**query))
        assert answer == len(self.matching(**query))

    @rule()
    def replay(self) -> None:
        """The changes from the beginning on lead to what is there."""
        self.all(lambda store: store.write("end", b""))

        async def changes(store: Store) -> list[Change]:
            async with store.watch(since=0) as changes:
                return await has_happened(changes, "end")

        for store in self.stores:
            seen = self.runner.run(changes(store))
            records = {change.key: change.record for change in seen}
            state = {key: record.version for key, record in records.items() if record}
            assert state.pop("end")
            assert state == {key: entry.version for key, entry in self.model.items()}
            versions = [change.version for change in seen]
            assert versions == sorted(versions)
        self.all(lambda store: store.delete("end"))

    @invariant()
    def all_is_as_in_the_dict(self) -> None:
        if not hasattr(self, "stores"):
            return
        records = self.all(lambda store: store.read())
        assert {record.key: (record.value, record.version) for record in records} == {
            key: (entry.value, entry.version) for key, entry in self.model.items()
        }
        assert self.all(lambda store: store.tables()) == (["micro"] if self.model else [])


class PostgresMachine(StoreMachine):
    """Stores in memory and in a database."""

    postgres: ClassVar[Postgres]

    async def urls(self) -> list[str]:
        await self.postgres.ask("DROP SCHEMA IF EXISTS microcosmos CASCADE")
        return ["memory://", self.postgres.url()]


@pytest.fixture(autouse=True, scope="module")
def server(postgres: Postgres) -> None:
    PostgresMachine.postgres = postgres


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, database=None
)

TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(TestStoreMachine.settings, max_examples=8)
