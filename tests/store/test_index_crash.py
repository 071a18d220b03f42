"""An index is right again after its program or its store stops at any step."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Store, Write
from microcosmos.store.index import Index, Indexed, drop_orphans, keeper
from microcosmos.store.index.catalog import ORPHANED

from .breaking import BreakingStore
from .test_index import until

WANTED = [f"{number:02}" for number in range(20)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PAGE", 5)


def both(value: Any) -> Any:
    return [value["a"], value["b"]]


async def found(index: Index) -> list[str]:
    return [row.key for row in await index.get("x")]


async def filled(plain: Store) -> None:
    await plain.batch([Write(key, b'{"a": "x", "b": "y"}') for key in WANTED])


async def begun(store: BreakingStore, plain: Store, writes: int) -> Index:
    """Run a program until its store has done so many writes, or the index is complete."""
    store.left = writes
    async with Indexed(plain) as indexed:
        index = indexed.index("it", both)
        waiting = asyncio.create_task(index.wait())
        await until(lambda: _over(store, waiting))
        waiting.cancel()
    store.left = 1_000_000
    return index


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("writes", range(1, 11))
async def test_a_build_goes_on_where_it_was(writes: int, told: bool) -> None:
    store = BreakingStore(clock=ManualClock())
    async with store as plain:
        await filled(plain)
        store.told = told
        await begun(store, plain, writes)
        # Others go on while it is down.
        await plain.set("00", {"a": "z", "b": "z"})
        await plain.delete("01")
        await plain.set("20", {"a": "x", "b": "x"})
        async with Indexed(plain) as indexed:
            index = indexed.index("it", both)
            await until(lambda: _found(index, [*WANTED[2:], "20", "20"]))
            entries = plain.part("index/it/1")
            await until(lambda: _count(entries, 2 * len(WANTED)))


async def test_what_was_done_is_not_done_again() -> None:
    store = BreakingStore(clock=ManualClock())
    async with store as plain:
        await filled(plain)
        index = await begun(store, plain, 5)
        assert (await index.status()).cursor >= WANTED[4]
        before = await plain.version()
        done = await plain.part("index/it/1").read(prefix="r")
        assert done
        async with Indexed(plain) as indexed:
            await indexed.index("it", both).wait()
        again = await plain.part("index/it/1").read(prefix="r")
        assert again[: len(done)] == done
        assert await plain.version() > before


@pytest.mark.parametrize("told", [True, False])
async def test_a_write_is_done_with_its_entries_or_not_at_all(told: bool) -> None:
    store = BreakingStore(clock=ManualClock())
    async with store as plain, Indexed(plain) as indexed:
        index = indexed.index("it", both)
        await index.wait()
        await indexed.set("k", {"a": "x", "b": "y"})
        store.left, store.told = int(not told), told
        with pytest.raises(errors.Unavailable):
            await indexed.set("k", {"a": "z", "b": "z"})
        now = "x" if told else "z"
        store.left = 1_000_000
        assert [row.key for row in await index.get(now)] == ["k"] * (1 if told else 2)
        assert (await plain.get("k"))["a"] == now


@pytest.mark.parametrize("value", [{"a": "x", "b": "x"}, None])
async def test_a_write_in_the_middle_of_a_repair_wins(value: Any) -> None:
    store = BreakingStore(clock=ManualClock())
    async with store as plain, Indexed(plain) as indexed:
        index = indexed.index("it", both)
        await index.wait()
        store.read = lambda: indexed.set("k", value)
        await plain.set("k", {"a": "y", "b": "y"})
        await until(lambda: _true(store.read is None))
        await until(lambda: _found(index, ["k", "k"] if value else []))
        # In the order of versions: once this is seen, all before it was.
        await plain.set("last", {"a": "z", "b": "z"})
        await until(lambda: index.get("z"))
        assert await plain.part("index/it/1").count(prefix="e") == (4 if value else 2)


@pytest.mark.parametrize("value", [{"a": "x", "b": "x"}, None])
async def test_a_write_in_the_middle_of_a_build_wins(value: Any) -> None:
    store = BreakingStore(clock=ManualClock())
    async with store as plain:
        await plain.set("k", {"a": "y", "b": "y"})
        async with Indexed(plain) as indexed:
            store.read = lambda: indexed.set("k", value)
            index = indexed.index("it", both)
            await index.wait()
            assert await index.get("y") == []
            assert await found(index) == (["k", "k"] if value else [])
            assert await plain.part("index/it/1").count(prefix="e") == (2 if value else 0)


@pytest.mark.parametrize("writes", range(1, 5))
async def test_a_removal_goes_on(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcosmos.store.index.catalog._AT_ONCE", 30)
    clock = ManualClock()
    store = BreakingStore(clock=clock)
    async with store as plain:
        await filled(plain)
        async with Indexed(plain, clock=clock) as indexed:
            await indexed.index("it", both).wait()
        await clock.advance(ORPHANED + 1)
        store.left = writes
        with contextlib.suppress(errors.Unavailable):
            await drop_orphans(plain, clock=clock)
        store.left = 1_000_000
        # Who declares it now finds half of it gone, and begins anew.
        async with Indexed(plain, clock=clock) as indexed:
            assert await found(indexed.index("it", both)) == WANTED


async def _over(store: BreakingStore, waiting: asyncio.Task[None]) -> bool:
    return not store.left or waiting.done()


async def _true(known: bool) -> bool:
    return known


async def _found(index: Index, wanted: list[str]) -> bool:
    return await found(index) == wanted


async def _count(entries: Store, wanted: int) -> bool:
    return await entries.count(prefix="e") == wanted
