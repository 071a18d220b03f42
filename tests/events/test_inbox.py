"""The inbox: once, whoever tries and however often; and taken back once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.events.transactions.inbox import KEEP, Inbox
from microcosmos.events.transactions.transaction import MARKS, Overtaken, Transaction, transact
from microcosmos.service.data import Data
from microcosmos.store import Check, Record, Store, Write, open_store
from microcosmos.testing import memory

from .mortal import Life, process, seen_by


@asynccontextmanager
async def _of_a_service(_: Path) -> AsyncIterator[Store]:
    async with memory() as bench, Data(bench.platform.client, "shop", "micro") as data:
        yield data.store


@asynccontextmanager
async def _in_memory(_: Path) -> AsyncIterator[Store]:
    async with open_store("memory://") as store:
        yield store


@asynccontextmanager
async def _in_a_file(folder: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite://{folder / 'store.db'}") as store:
        yield store


STORES = [_in_memory, _in_a_file, _of_a_service]


@pytest.fixture(params=STORES, ids=lambda one: one.__name__.strip("_"))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: request.param(tmp_path)


async def add(inbox: Inbox, id: str, amount: int = 1, keep: float = KEEP) -> bool:
    """Add to a sum, once for an id; whether it was this call that did."""
    async with inbox.once("adder", id, keep=keep) as tx:
        if tx.done:
            return False
        tx.set("sum", (await tx.get("sum", int) or 0) + amount)
    return not tx.done


async def take_back(inbox: Inbox, id: str, amount: int = 1) -> bool:
    async with inbox.undo("adder", id) as tx:
        if tx.done:
            return False
        tx.set("sum", (await tx.get("sum", int) or 0) - amount)
    return not tx.done


async def test_the_second_time_is_no_time(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        assert await add(inbox, "e1")
        assert not await add(inbox, "e1")
        assert await add(inbox, "e2")
        assert await store.get("sum") == 2
        assert await inbox.has("adder", "e1")
        assert not await inbox.has("other", "e1")


async def test_groups_have_their_own(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        for group in ("a", "b"):
            async with inbox.once(group, "e1") as tx:
                assert not tx.done
                tx.set(group, 1)
        assert await store.list() == ["a", "b"]


async def test_what_is_written_though_it_is_done_is_not_kept(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        for _ in range(2):
            async with inbox.once("careless", "e1") as tx:
                tx.set("sum", (await tx.get("sum", int) or 0) + 1)
        assert await store.get("sum") == 1


async def test_a_block_that_raises_has_no_effect_and_may_be_done_again(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)

        async def fail() -> None:
            async with inbox.once("adder", "e1") as tx:
                tx.set("sum", 7)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await fail()
        assert not await store.has("sum")
        assert await add(inbox, "e1")


async def test_of_many_at_once_one_commits(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        barrier = asyncio.Barrier(8)

        async def one() -> bool:
            async with inbox.once("adder", "e1") as tx:
                assert not tx.done
                await barrier.wait()
                tx.set("sum", (await tx.get("sum", int) or 0) + 1)
            return not tx.done

        assert sorted(await asyncio.gather(*(one() for _ in range(8)))) == [False] * 7 + [True]
        assert await store.get("sum") == 1


async def test_whoever_is_overtaken_is_told_and_has_done_nothing(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)

        async def slow() -> None:
            async with inbox.once("adder", "e1") as tx:
                total = await tx.get("sum", int) or 0
                await store.set("sum", 10)
                tx.set("sum", total + 1)

        with pytest.raises(Overtaken):
            await slow()
        assert await store.get("sum") == 10
        assert await add(inbox, "e1")
        assert await store.get("sum") == 11


async def test_what_was_only_read_must_still_hold(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)

        async def slow() -> None:
            async with inbox.once("adder", "e1") as tx:
                assert await tx.get("closed") is None
                await store.set("closed", True)
                tx.set("sum", 1)

        with pytest.raises(Overtaken):
            await slow()
        assert not await store.has("sum")


async def test_work_is_done_anew_until_it_is_not_overtaken(opened: Any) -> None:
    async with opened() as store:
        inbox, tries = Inbox(store), 0

        async def work(tx: Transaction) -> int:
            nonlocal tries
            tries += 1
            total = await tx.get("sum", int) or 0
            if tries < 3:
                await store.set("sum", tries * 100)
            tx.set("sum", total + 1)
            return total

        assert await transact(lambda: inbox.once("adder", "e1"), work) == 200
        assert await store.get("sum") == 201


async def test_further_tables_are_in_the_same_commit(opened: Any) -> None:
    async with opened() as store:
        inbox, orders = Inbox(store), store.table("orders")
        async with inbox.once("g", "e1") as tx:
            tx.set("a", 1)
            tx.set("b", 2, table="orders")
            tx.set("c", 3, table=orders)
            assert await tx.get("b", int, table="orders") == 2
            tx.add(Write("d", b"4", table=orders.scope[1]))
        assert await store.list() == ["a"]
        assert await orders.list() == ["b", "c", "d"]
        async with inbox.once("g", "e2") as tx:
            assert await tx.get("b", int, table="orders") == 2
            tx.delete("b", table="orders")
            tx.set("a", None)
            assert await tx.get("b", table="orders") is None
            assert await tx.get("a") is None
        assert await store.list() == []
        assert await orders.list() == ["c", "d"]


async def test_a_check_of_ones_own_holds_too(opened: Any) -> None:
    async with opened() as store:
        with pytest.raises(Overtaken):
            async with Inbox(store).once("g", "e1") as tx:
                tx.add(Check("there", 5))
        assert not await Inbox(store).has("g", "e1")


async def test_after_the_block_nothing_can_be_written() -> None:
    async with open_store("memory://") as store:
        async with Inbox(store).once("g", "e1") as tx:
            tx.write("a", b"1", metadata={"x": "y"}, expiry=60)
        assert (await store.read("a")).metadata == {"x": "y"}
        assert tx.version == (await store.read("a")).version
        with pytest.raises(RuntimeError, match="would be lost"):
            tx.set("b", 1)
        with pytest.raises(RuntimeError, match="would be lost"):
            await tx.get("a")


async def test_what_was_written_is_read_as_it_was_written() -> None:
    async with open_store("memory://") as store, Inbox(store).once("g", "e1") as tx:
        tx.write("a", b"1", metadata={"x": "y"}, expiry=60)
        assert await tx.read("a") == Record("a", b"1", {"x": "y"}, 60)
        tx.delete("a")
        assert await tx.read("a") is None


@pytest.mark.parametrize(("group", "id"), [("", "e1"), ("g", ""), ("g\nh", "e1")])
async def test_bad_names_are_refused(group: str, id: str) -> None:
    async with open_store("memory://") as store:
        with pytest.raises(errors.BadRequest, match="on one line"):
            async with Inbox(store).once(group, id):
                pass


async def test_a_table_of_another_database_is_refused() -> None:
    async with open_store("memory://") as store, Inbox(store).once("g", "e1") as tx:
        with pytest.raises(errors.BadRequest, match="another database"):
            tx.set("a", 1, table=store.table(database="other"))


async def test_without_an_outbox_nothing_is_published() -> None:
    async with open_store("memory://") as store, Inbox(store).once("g", "e1") as tx:
        with pytest.raises(RuntimeError, match="no outbox"):
            await tx.publish("t", {})


async def test_it_is_remembered_for_its_time_only() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        inbox = Inbox(store)
        assert await add(inbox, "e1", keep=100)
        await clock.advance(99)
        assert not await add(inbox, "e1")
        await clock.advance(2)
        assert await add(inbox, "e1")
        (record,) = await store.part(MARKS).read()
        assert record.expiry == KEEP
        assert await add(inbox, "long", keep=0)
        assert (await store.part(MARKS).read("adder\nlong")).expiry == 0
        assert await inbox.fading("adder", "never was") == []
        await store.batch(await inbox.fading("adder", "long", after=5))
        await clock.advance(6)
        assert not await inbox.has("adder", "long")


# Taking back.


async def test_what_was_done_is_taken_back_once(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        await add(inbox, "e1", 5)
        assert await take_back(inbox, "e1", 5)
        assert not await take_back(inbox, "e1", 5)
        assert await store.get("sum") == 0
        assert not await inbox.has("adder", "e1")


async def test_what_never_was_cannot_be_any_more(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        assert not await take_back(inbox, "e1", 5)
        assert not await add(inbox, "e1", 5)
        assert not await store.has("sum")


async def test_what_was_taken_back_stays_so(opened: Any) -> None:
    async with opened() as store:
        inbox = Inbox(store)
        await add(inbox, "e1")
        await take_back(inbox, "e1")
        assert not await add(inbox, "e1")
        assert await store.get("sum") == 0


@given(
    st.lists(st.sampled_from(["add", "back"]), min_size=1, max_size=5),
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_doing_and_taking_back_in_any_order_never_leaves_more_than_one(
    calls: list[str], turns: list[int]
) -> None:
    async def main() -> None:
        async with open_store("memory://") as store:
            life = Life(turns=cycle(turns))
            inbox = Inbox(seen_by(store, life))

            async def call(what: str) -> bool:
                while True:
                    try:
                        return await (add if what == "add" else take_back)(inbox, "e1")
                    except Overtaken:
                        continue

            did = await asyncio.gather(*(call(what) for what in calls))
            added = sum(done for what, done in zip(calls, did, strict=True) if what == "add")
            back = sum(done for what, done in zip(calls, did, strict=True) if what == "back")
            assert added <= 1
            assert back <= added
            assert (await store.get("sum", int) or 0) == added - back
            if "back" in calls:
                assert added == back

    asyncio.run(main())


async def _deaths(after: bool) -> int:
    """Let a process die at each of its operations, and another one do the work again."""
    for until in range(1, 20):
        async with open_store("memory://") as store:
            life = Life(until, after=after)
            inbox = Inbox(seen_by(store, life))
            async with process(add(inbox, "e1"), life) as task:
                dying = asyncio.ensure_future(life.dead.wait())
                await asyncio.wait([task, dying], return_when=asyncio.FIRST_COMPLETED)
                dying.cancel()
                lived = task.done()
            await add(Inbox(store), "e1")
            assert await store.get("sum") == 1
            if lived:
                return until
    raise AssertionError("it does not end")


@pytest.mark.parametrize("after", [False, True])
async def test_a_death_anywhere_neither_doubles_nor_loses(after: bool) -> None:
    assert await _deaths(after) > 3


class _Deaf:
    """A backend whose answers to writes are lost, and which is then asked again."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def apply(self, scope: Any, ops: Any) -> int:
        await self._backend.apply(scope, ops)
        version: int = await self._backend.apply(scope, ops)
        return version


async def test_an_answer_that_is_lost_and_asked_for_again_is_no_conflict() -> None:
    async with open_store("memory://") as store:
        from microcosmos.store import Table

        inbox = Inbox(Table(_Deaf(store._backend)))  # type: ignore[attr-defined]
        assert await add(inbox, "e1")
        assert await add(inbox, "e2")
        assert await take_back(inbox, "e2")
        assert await store.get("sum") == 1
