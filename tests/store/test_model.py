"""Any run of operations does on both backends what it does on a dict."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Delete, Op, Store, Write, open_store

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
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stack = AsyncExitStack()
        self.model: dict[str, Entry] = {}
        self.stores = self.runner.run(self.opened())

    async def opened(self) -> list[Store]:
        urls = ["memory://", f"sqlite://{self.folder.name}/store.db"]
        return [
            await self.stack.enter_async_context(open_store(url, clock=self.clock)) for url in urls
        ]

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    def both(self, ask: Callable[[Store], Awaitable[Any]]) -> Any:
        """What both stores answer, which must be the same; errors are answers too."""

        async def answer(store: Store) -> Any:
            try:
                return await ask(store)
            except errors.Error as exc:
                return type(exc), exc.detail

        first, second = (self.runner.run(answer(store)) for store in self.stores)
        assert first == second
        return first

    def named(self, key: str, how: str) -> int | None:
        version = self.model[key].version if key in self.model else 0
        return None if how == "any" else version + (how == "wrong")

    def matching(self, prefix: str, suffix: str) -> list[str]:
        keys = sorted(self.model)
        return [key for key in keys if key.startswith(prefix) and key.endswith(suffix)]

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=1, max_size=4, unique=True))
    def batch(self, data: st.DataObject, keys: list[str]) -> None:
        ops: list[Op] = []
        refused = False
        for key in keys:
            how = data.draw(VERSIONS)
            refused |= how == "wrong"
            version = self.named(key, how)
            if data.draw(st.booleans()):
                ops.append(Write(key, key.encode(), data.draw(EXPIRIES), {}, version))
            else:
                ops.append(Delete(key, version))
        answer = self.both(lambda store: store.batch(ops))
        assert refused == (not isinstance(answer, int))
        if not refused:
            self.do(ops, answer)

    def do(self, ops: list[Op], version: int) -> None:
        for op in ops:
            if isinstance(op, Write):
                expires = self.clock.time() + op.expiry if op.expiry else float("inf")
                self.model[op.key] = Entry(op.value, expires, version)
            else:
                self.model.pop(op.key, None)

    @rule(key=KEYS, value=st.integers(0, 3))
    def modify(self, key: str, value: int) -> None:
        self.both(lambda store: store.delete(key))
        answer = self.both(lambda store: store.modify(key, lambda old: value or old))
        assert answer == (value or None)
        self.model.pop(key, None)
        if value:
            version = self.both(lambda store: store.read(key)).version
            self.model[key] = Entry(str(value).encode(), float("inf"), version)

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(seconds))
        now = self.clock.time()
        self.model = {key: entry for key, entry in self.model.items() if entry.expires > now}

    @rule(
        prefix=PARTS,
        suffix=PARTS,
        limit=st.integers(0, 4),
        offset=st.integers(0, 3),
        order=st.sampled_from(["asc", "desc"]),
        after=PARTS,
    )
    def pages(self, prefix: str, suffix: str, limit: int, offset: int, **rest: Any) -> None:
        order, after = rest["order"], rest["after"]
        keys = self.matching(prefix, suffix)
        if after:
            keys = [key for key in keys if (key > after if order == "asc" else key < after)]
        keys = keys if order == "asc" else keys[::-1]
        keys = keys[offset : offset + limit if limit else None]
        query = {"suffix": suffix, "limit": limit, "offset": offset, "order": order}
        assert self.both(lambda store: store.list(prefix, **query, after=after)) == keys
        records = self.both(lambda store: store.read(prefix=prefix, **query, after=after))
        assert [record.key for record in records] == keys

    @rule(prefix=PARTS, suffix=PARTS)
    def count(self, prefix: str, suffix: str) -> None:
        answer = self.both(lambda store: store.count(prefix=prefix, suffix=suffix))
        assert answer == len(self.matching(prefix, suffix))

    @invariant()
    def all_is_as_in_the_dict(self) -> None:
        if not hasattr(self, "stores"):
            return
        records = self.both(lambda store: store.read())
        assert {record.key: (record.value, record.version) for record in records} == {
            key: (entry.value, entry.version) for key, entry in self.model.items()
        }
        assert self.both(lambda store: store.tables()) == (["micro"] if self.model else [])


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, database=None
)
