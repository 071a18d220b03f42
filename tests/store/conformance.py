"""What every store does, written once; `test_backends` runs it on each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import (
    MAX_KEY,
    MAX_VALUE,
    Change,
    Check,
    Delete,
    Record,
    Store,
    Write,
)
from microcosmos.store.backend import PURGE_EVERY
from microcosmos.store.watch import MAX_PAGE, REMEMBERED_FOR

Open = Callable[[], AbstractAsyncContextManager[Store]]

# In code point order, which neither locale, nor UTF-16, nor a case-blind LIKE has.
TRICKY = [
    "\x00",
    "%",
    "A",
    "A%b",
    "A_b",
    "Axb",
    "_",
    "a",
    "a\x00b",
    "axb",
    "é",
    "€",
    "\uffff",
    "😀",
]


class User(msgspec.Struct):
    name: str
    age: int = 0


async def take(changes: AsyncIterator[Change], number: int) -> list[Change]:
    """The next changes, so many of them."""
    async with asyncio.timeout(60):
        return [await anext(changes) for _ in range(number)]


async def has_happened(changes: AsyncIterator[Change], key: str) -> list[Change]:
    """The next changes up to that of a key."""
    seen = await take(changes, 1)
    while seen[-1].key != key:
        seen += await take(changes, 1)
    return seen


async def until_refused(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        await ask()
        await asyncio.sleep(0)


async def purged(store: Store, clock: ManualClock, done: Callable[[], bool]) -> None:
    """Let time pass until what the store does beside us in its intervals has come that far."""
    async with asyncio.timeout(60):
        while not done():
            await clock.advance(PURGE_EVERY)
            await store.delete("nothing")


class StoreConformance:
    """What every store does.

    A class of tests gives the fixture ``opened``: a function that opens a store without records,
    whose expiry goes by ``clock``.
    """

    freezes = True
    """Whether `Store.frozen` is a view of its own."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    async def test_what_is_written_is_read(self, opened: Open) -> None:
        async with opened() as store:
            version = await store.write("a", b"\x00\xff", metadata={"type": "x"})
            assert await store.read("a") == Record("a", b"\x00\xff", {"type": "x"}, 0, version)
            assert await store.read() == [await store.read("a")]

    async def test_a_missing_key_is_not_found_and_named(self, opened: Open) -> None:
        async with opened() as store:
            with pytest.raises(errors.NotFound, match="'nope' in table micro/micro"):
                await store.read("nope")
            assert await store.read(prefix="nope") == []

    async def test_a_write_replaces_all_of_the_record(self, opened: Open) -> None:
        async with opened() as store:
            first = await store.write("a", b"1", metadata={"x": "y"}, expiry=9)
            second = await store.write("a", b"2")
            assert second > first
            assert await store.read("a") == Record("a", b"2", {}, 0, second)

    async def test_a_deleted_key_is_gone_and_may_be_deleted_again(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("a", b"1")
            await store.delete("a")
            await store.delete("a")
            assert not await store.has("a")
            assert await store.count() == 0

    async def test_the_metadata_of_a_record_is_a_copy(self, opened: Open) -> None:
        async with opened() as store:
            notes = {"a": "1"}
            await store.write("k", b"", metadata=notes)
            notes["a"] = "2"
            (await store.read("k")).metadata["a"] = "3"
            assert (await store.read("k")).metadata == {"a": "1"}

    # Keys, prefixes, pages

    async def test_keys_are_ordered_by_code_point(self, opened: Open) -> None:
        async with opened() as store:
            for key in reversed(TRICKY):
                await store.write(key, key.encode())
            assert await store.list() == TRICKY == sorted(TRICKY)
            assert await store.list(order="desc") == TRICKY[::-1]
            assert [record.value.decode() for record in await store.read()] == TRICKY

    @pytest.mark.parametrize("end", ["prefix", "suffix"])
    async def test_prefix_and_suffix_mean_themselves(self, opened: Open, end: str) -> None:
        matches = str.startswith if end == "prefix" else str.endswith
        async with opened() as store:
            await store.batch([Write(key, b"") for key in TRICKY])
            for part in [*TRICKY, "", "A%", "_b", "B", "xb", "\U0010ffff"]:
                wanted = [key for key in TRICKY if matches(key, part)]
                asked: Any = {end: part}
                assert [record.key for record in await store.read(**asked)] == wanted
                assert await store.list(**asked) == wanted
                assert await store.count(**asked) == len(wanted)

    async def test_a_prefix_has_the_last_code_point_too(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("a\U0010ffff\U0010ffff", b"")
            await store.write("b", b"")
            assert await store.list("a") == ["a\U0010ffff\U0010ffff"]

    async def test_prefix_and_suffix_combine_and_may_overlap(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch([Write(key, b"") for key in ["ab", "abb", "ba", "b"]])
            assert await store.list("ab", suffix="b") == ["ab", "abb"]

    async def test_pages(self, opened: Open) -> None:
        keys = [f"k{number}" for number in range(10)]
        async with opened() as store:
            await store.batch([Write(key, b"") for key in [*keys, "j", "l"]])
            assert await store.list("k", limit=3) == keys[:3]
            assert await store.list("k", limit=3, offset=9) == keys[9:]
            assert await store.list("k", offset=8) == keys[8:]
            assert await store.list("k", limit=2, offset=1, order="desc") == ["k8", "k7"]
            assert await store.list("k", offset=99) == []
            assert [r.key for r in await store.read(prefix="k", limit=1, offset=4)] == ["k4"]

    async def test_a_cursor_goes_on_behind_a_key(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch(
                [Write(key, b"") for key in ["a", "b", "k", "k1", "k2", "k3", "y", "z"]]
            )
            assert await store.list("k", after="k1") == ["k2", "k3"]
            assert await store.list("k", after="k1x", limit=1) == ["k2"]
            assert await store.list("k", after="k2", order="desc") == ["k1", "k"]
            assert await store.list("k", after="a") == ["k", "k1", "k2", "k3"]
            assert await store.list("k", after="z", order="desc") == ["k3", "k2", "k1", "k"]
            assert await store.list("k", after="z") == []

    async def test_all_keys_come_in_order_whatever_the_page(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch([Write(key, b"") for key in TRICKY])
            assert [key async for key in store.all_keys(batch_size=3)] == TRICKY
            assert [key async for key in store.all_keys(prefix="A")] == ["A", "A%b", "A_b", "Axb"]

    async def test_ranges(self, opened: Open) -> None:
        keys = ["a", "b1", "b2", "b3", "c", "é"]
        async with opened() as store:
            await store.batch([Write(key, key.encode()) for key in keys])
            for start, end, wanted in [
                ("b", "", ["b1", "b2", "b3", "c", "é"]),
                ("b1", "b3", ["b1", "b2"]),
                ("", "b2", ["a", "b1"]),
                ("b2", "b2", []),
                ("c", "b", []),
                ("é", "", ["é"]),
                ("\U0010ffff", "", []),
            ]:
                asked = {"start": start, "end": end}
                assert await store.list(**asked) == wanted  # type: ignore[arg-type]
                assert [r.key for r in await store.read(**asked)] == wanted  # type: ignore[call-overload]
                assert await store.count(**asked) == len(wanted)
                assert [key async for key in store.all_keys(**asked, batch_size=2)] == wanted  # type: ignore[arg-type]

    async def test_a_range_goes_with_all_else(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch([Write(f"{a}{b}", b"") for a in "abc" for b in "1234"])
            assert await store.list("b", start="a3", end="b3") == ["b1", "b2"]
            assert await store.list("b", start="b2", end="z") == ["b2", "b3", "b4"]
            assert await store.list(start="a4", end="c2", order="desc", limit=2) == ["c1", "b4"]
            assert await store.list(start="b1", end="c", after="b4", order="desc") == [
                "b3",
                "b2",
                "b1",
            ]
            assert await store.list(start="a2", suffix="2", offset=1) == ["b2", "c2"]
            assert await store.count(prefix="c", start="b", end="c2") == 1

    async def test_pages_of_so_many_bytes(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch([Write(f"k{n}", bytes(n)) for n in range(10)])

            async def page(**query: Any) -> list[str]:
                return [record.key for record in await store.read(**query)]

            assert await page(max_bytes=6) == ["k0", "k1", "k2", "k3"]
            assert await page(max_bytes=7) == ["k0", "k1", "k2", "k3", "k4"]
            assert await page(max_bytes=1, after="k4") == ["k5"]
            assert await page(max_bytes=9, order="desc") == ["k9"]
            assert await page(max_bytes=100, limit=2) == ["k0", "k1"]
            assert await page(max_bytes=100, offset=7) == ["k7", "k8", "k9"]
            assert await page(max_bytes=1 << 40) == [f"k{n}" for n in range(10)]

    # Expiry

    async def test_an_expired_record_is_nowhere(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as store:
            await store.write("a", b"1", expiry=10)
            assert (await store.read("a")).expiry == 10
            await clock.advance(9.5)
            assert (await store.read("a")).expiry == 0.5
            await clock.advance(0.5)
            assert not await store.has("a")
            assert (await store.read(), await store.list(), await store.count()) == ([], [], 0)
            assert (await store.tables(), await store.databases()) == ([], [])

    async def test_a_write_without_expiry_lifts_it(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as store:
            await store.write("a", b"1", expiry=10)
            await store.write("a", b"2")
            await clock.advance(1000)
            assert (await store.read("a")).value == b"2"

    async def test_an_expired_record_counts_as_missing(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as store:
            old = await store.write("a", b"1", expiry=10)
            await clock.advance(10)
            with pytest.raises(errors.Conflict, match="does not exist"):
                await store.write("a", b"2", version=old)
            assert await store.write("a", b"2", version=0) > old

    # Versions and batches

    async def test_compare_and_set(self, opened: Open) -> None:
        async with opened() as store:
            first = await store.write("a", b"1", version=0)
            with pytest.raises(errors.Conflict, match=f"'a' is at version {first}"):
                await store.write("a", b"2", version=0)
            second = await store.write("a", b"2", version=first)
            with pytest.raises(errors.Conflict):
                await store.delete("a", version=first)
            await store.delete("a", version=second)
            with pytest.raises(errors.Conflict):
                await store.write("a", b"3", version=second)

    async def test_a_version_is_never_given_twice(self, opened: Open) -> None:
        async with opened() as store:
            old = await store.write("a", b"1")
            await store.delete("a")
            await store.write("a", b"1")
            with pytest.raises(errors.Conflict):
                await store.write("a", b"2", version=old)

    async def test_a_batch_does_all(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("old", b"")
            version = await store.batch([Write("a", b"1"), Write("b", b"2"), Delete("old")])
            assert [(r.key, r.version) for r in await store.read()] == [
                ("a", version),
                ("b", version),
            ]
            assert await store.batch([]) == 0

    async def test_a_refused_batch_does_nothing(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("a", b"1")
            before = await store.read()
            with pytest.raises(errors.Conflict):
                await store.batch([Write("b", b""), Delete("a"), Write("c", b"", version=7)])
            assert await store.read() == before

    async def test_a_batch_spans_tables(self, opened: Open) -> None:
        async with opened() as store:
            await store.batch([Write("a", b"1"), Write("a", b"2", table="other")])
            assert (await store.read("a")).value == b"1"
            assert (await store.table("other").read("a")).value == b"2"

    async def test_a_batch_may_go_by_what_it_does_not_write(self, opened: Open) -> None:
        async with opened() as store:
            version = await store.write("limit", b"3", expiry=50)
            await store.batch([Check("limit", version), Check("b", 0), Write("a", b"")])
            assert (await store.read("limit")).version == version
            assert (await store.read("limit")).expiry == 50
            for check in (Check("limit", version + 1), Check("limit", 0), Check("c", 1)):
                with pytest.raises(errors.Conflict):
                    await store.batch([check, Write("a", b"1")])
            with pytest.raises(errors.Conflict):
                await store.batch([Check("limit", version, table="other"), Write("a", b"1")])
            assert (await store.read("a")).value == b""
            assert await store.list() == ["a", "limit"]

    async def test_of_many_writers_one_wins(self, opened: Open) -> None:
        async with opened() as store:
            tries = [store.write("a", str(n).encode(), version=0) for n in range(20)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            versions = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert versions == [(await store.read("a")).version]
            assert sum(isinstance(outcome, errors.Conflict) for outcome in outcomes) == 19

    # Values

    async def test_values_of_any_json(self, opened: Open) -> None:
        async with opened() as store:
            await store.set("a", {"x": [1, None, "é"]})
            assert await store.get("a") == {"x": [1, None, "é"]}
            await store.set("u", User("Ada"))
            assert await store.get("u", User) == User("Ada")
            assert await store.get("nope", User) is None
            await store.set("a", None)
            assert not await store.has("a")

    async def test_a_value_of_another_type_is_a_bad_request(self, opened: Open) -> None:
        async with opened() as store:
            await store.set("u", {"name": "Ada", "age": "x"})
            with pytest.raises(errors.BadRequest, match=r"'u'.*\$\.age"):
                await store.get("u", User)
            await store.write("raw", b"\xff")
            with pytest.raises(errors.BadRequest, match="'raw'"):
                await store.get("raw")

    async def test_modify_makes_changes_and_deletes(self, opened: Open) -> None:
        async with opened() as store:
            assert await store.modify("u", lambda old: old or User("Ada"), User) == User("Ada")
            grown = await store.modify("u", lambda u: User(u.name, u.age + 1), User)
            assert grown == User("Ada", 1) == await store.get("u", User)
            assert await store.modify("u", lambda _: None) is None
            assert await store.modify("u", lambda _: None) is None
            assert not await store.has("u")

    async def test_modify_loses_no_change(self, opened: Open) -> None:
        async with opened() as store:
            await asyncio.gather(*(store.modify("n", lambda n: (n or 0) + 1) for _ in range(30)))
            assert await store.get("n") == 30

    async def test_modify_keeps_expiry_and_metadata(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("n", b"1", expiry=5, metadata={"a": "b"})
            await store.modify("n", lambda n: n + 1)
            record = await store.read("n")
            assert (record.value, record.expiry, record.metadata) == (b"2", 5, {"a": "b"})

    # Watching

    async def test_the_version_is_that_of_the_last_change(self, opened: Open) -> None:
        async with opened() as store:
            assert await store.version() == 0
            assert await store.write("a", b"") == await store.version()
            assert await store.table("t").write("a", b"") == await store.version()
            await store.delete("a")
            assert await store.version() > (await store.table("t").read("a")).version

    async def test_a_watcher_is_told_of_what_comes(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("before", b"")
            async with store.watch() as changes:
                version = await store.write("a", b"1", metadata={"x": "y"}, expiry=30)
                record = Record("a", b"1", {"x": "y"}, 30, version)
                assert await take(changes, 1) == [Change("a", version, record)]
                await store.delete("a")
                assert await take(changes, 1) == [Change("a", await store.version(), None)]
                await store.delete("a")
                await store.batch([Check("a", 0)])
                await store.write("b", b"")
                assert [change.key for change in await take(changes, 1)] == ["b"]

    async def test_a_watcher_sees_its_table_and_prefix_only(self, opened: Open) -> None:
        async with opened() as store:
            other = store.table("other")
            async with (
                store.watch(prefix="a/") as ours,
                other.watch() as theirs,
                store.table(database="other").watch() as nobodys,
            ):
                await store.batch([Write("a", b""), Write("a/1", b""), Write("b", b"")])
                await store.batch([Write("c", b"", table="other"), Delete("a/1"), Delete("b")])
                assert [(change.key, change.record is None) for change in await take(ours, 1)] in (
                    [("a/1", False)],
                    [("a/1", True)],
                )
                assert [change.key for change in await take(theirs, 1)] == ["c"]
                await store.write("a/2", b"")
                assert [change.key for change in await has_happened(ours, "a/2")][-1:] == ["a/2"]
                silent = asyncio.ensure_future(anext(nobodys))
                await store.table(database="other").write("x", b"")
                async with asyncio.timeout(60):
                    assert (await silent).key == "x"

    async def test_a_watch_since_a_version_has_all_after_it(self, opened: Open) -> None:
        async with opened() as store:
            versions = [await store.write(key, key.encode()) for key in "abcd"]
            await store.delete("b")
            await store.write("a", b"again")
            async with store.watch(since=versions[1]) as changes:
                seen = await take(changes, 4)
                assert [change.key for change in seen] == ["c", "d", "b", "a"]
                assert [change.version for change in seen] == [*range(versions[2], versions[2] + 4)]
                assert [change.record and change.record.value for change in seen] == [
                    b"c",
                    b"d",
                    None,
                    b"again",
                ]
                await store.write("e", b"")
                assert [change.key for change in await take(changes, 1)] == ["e"]
            async with store.watch(since=0, prefix="c") as changes:
                assert [change.key for change in await take(changes, 1)] == ["c"]
            async with store.watch(since=await store.version()) as changes:
                await store.write("f", b"")
                assert [change.key for change in await take(changes, 1)] == ["f"]

    async def test_the_changes_of_a_batch_come_together(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("b", b"")
            async with store.watch() as changes:
                keys = [f"k{number:04}" for number in range(MAX_PAGE + 5)]
                ops = [Delete("b"), *(Write(key, b"") for key in reversed(keys))]
                version = await store.batch(ops)
                seen = await take(changes, len(ops))
                assert [change.key for change in seen] == ["b", *keys]
                assert {change.version for change in seen} == {version}

    async def test_reading_then_watching_misses_nothing(self, opened: Open) -> None:
        async with opened() as store:

            async def write(name: str) -> None:
                for number in range(40):
                    key = f"{name}{random.randrange(8)}"
                    if number % 3:
                        await store.write(key, str(number).encode())
                    else:
                        await store.delete(key)

            writing = asyncio.gather(*(write(name) for name in "abcd"))
            await store.write("begin", b"")
            since = await store.version()
            state = {record.key: record.value for record in await store.read()}
            async with store.watch(since=since) as changes:
                await writing
                await store.write("end", b"")
                seen = await has_happened(changes, "end")
            for change in seen:
                if change.record:
                    state[change.key] = change.record.value
                else:
                    state.pop(change.key, None)
            assert state == {record.key: record.value for record in await store.read()}
            versions = [change.version for change in seen]
            assert versions == sorted(versions)

    async def test_an_expired_record_is_told_of(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as store:
            await store.write("a", b"", expiry=5)
            since = await store.version()
            async with store.watch() as changes:
                waiting = asyncio.ensure_future(take(changes, 1))
                await purged(store, clock, waiting.done)
                [change] = await waiting
                assert (change.key, change.record) == ("a", None)
                assert change.version > since
            async with store.watch(since=since) as changes:
                assert await take(changes, 1) == [change]

    async def test_a_record_that_expired_meanwhile_is_not_shown(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as store:
            await store.write("a", b"", expiry=5)
            await clock.advance(6)
            async with store.watch(since=0) as changes:
                [change] = await take(changes, 1)
                assert (change.key, change.record) == ("a", None)

    async def test_a_slow_watcher_catches_up(self, opened: Open) -> None:
        async with opened() as store:
            count = MAX_PAGE * 4 + 7
            async with store.watch(prefix="k") as changes, store.watch(prefix="last") as late:
                for first in range(0, count, 500):
                    numbers = range(first, min(first + 500, count))
                    await store.batch([Write(f"k{number:05}", bytes(2000)) for number in numbers])
                    await store.write("k", str(first).encode())
                await store.write("last", b"")
                assert [change.key for change in await take(late, 1)] == ["last"]
                last = await store.read("k")
                state = {}
                while len(state) < count + 1 or state["k"].version < last.version:
                    [change] = await take(changes, 1)
                    assert change.version >= max((c.version for c in state.values()), default=0)
                    state[change.key] = change
                assert state["k"].record == last

    async def test_large_values_reach_a_watcher(self, opened: Open) -> None:
        async with opened() as store:
            async with store.watch() as changes:
                await store.batch([Write(f"k{n}", bytes([n]) * 800_000) for n in range(5)])
                seen = await take(changes, 5)
            assert [c.record and c.record.value[:1] for c in seen] == [b"%c" % n for n in range(5)]

    async def test_of_a_watcher_that_is_given_up_nothing_is_lost(self, opened: Open) -> None:
        async with opened() as store:
            keys = [f"k{number:04}" for number in range(MAX_PAGE + 5)]
            await store.batch([Write(key, b"") for key in keys])
            async with store.watch(since=0) as changes:
                seen = await take(changes, MAX_PAGE)
                for turns in range(5):  # the next page is on its way
                    waiting = asyncio.ensure_future(anext(changes))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    waiting.cancel()
                    await asyncio.wait([waiting])
                    seen += [] if waiting.cancelled() else [waiting.result()]
                seen += await take(changes, len(keys) - len(seen))
                assert [change.key for change in seen] == keys

    async def test_forgotten_deletes_are_told(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as store:
            quiet = store.table("quiet")
            await quiet.write("a", b"")
            await store.write("a", b"")
            since = await store.version()
            async with quiet.watch() as changes:
                await store.delete("a")
                await clock.advance(REMEMBERED_FOR)

                async def watch_again() -> None:
                    async with store.watch(since=since):
                        pass

                waiting = asyncio.ensure_future(until_refused(watch_again))
                await purged(store, clock, waiting.done)
                with pytest.raises(errors.Conflict, match="read anew"):
                    await waiting
                async with store.watch(since=await store.version()), quiet.watch(since=since):
                    pass
                await quiet.delete("a")
                assert [change.record for change in await take(changes, 1)] == [None]

    async def test_a_version_to_come_is_no_place_to_watch_from(self, opened: Open) -> None:
        async with opened() as store:
            version = await store.write("a", b"")
            with pytest.raises(errors.Conflict, match="read anew"):
                async with store.watch(since=version + 1):
                    pass

    async def test_a_watch_ends_with_its_block(self, opened: Open) -> None:
        async with opened() as store:
            async with store.watch() as changes:
                waiting = asyncio.ensure_future(anext(changes))
                await store.write("a", b"")
                async with asyncio.timeout(60):
                    await waiting
                waiting = asyncio.ensure_future(anext(changes))
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                with pytest.raises(StopAsyncIteration):
                    await waiting

    async def test_a_watch_ends_with_its_store(self, opened: Open) -> None:
        async with opened() as store:
            changes = await store.watch().__aenter__()
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            with pytest.raises(errors.Unavailable, match="closed"):
                await waiting

    @pytest.mark.parametrize(
        "asked", [{"since": -1}, {"since": "1"}, {"prefix": 1}, {"prefix": "\ud800"}]
    )
    async def test_bad_watches(self, opened: Open, asked: Any) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest):
                async with store.watch(**asked):
                    pass

    async def test_a_frozen_view_stays_as_it_was(self, opened: Open) -> None:
        if not self.freezes:
            pytest.skip("it has no frozen view")
        async with opened() as store:
            version = await store.batch([Write("a", b"1"), Write("b", b"1", table="other")])
            async with store.frozen() as view:
                await store.batch([Write("a", b"2"), Delete("b", table="other")])
                await store.write("c", b"", expiry=5)
                assert (await view.read("a")).value == b"1"
                assert await view.list() == ["a"]
                assert await view.table("other").count() == 1
                assert await view.tables() == ["micro", "other"]
                assert await view.version() == version
                with pytest.raises(errors.BadRequest, match="frozen"):
                    await view.write("a", b"3")
                with pytest.raises(errors.BadRequest, match="frozen"):
                    view.watch()
                with pytest.raises(OSError, match="mine"):
                    async with store.frozen():
                        raise OSError("mine")
            assert await store.list() == ["a", "c"]

    # Tables

    async def test_tables_and_databases_do_not_mix(self, opened: Open) -> None:
        async with opened() as store:
            users, others = store.table("users"), store.table("users", database="other")
            for number, table in enumerate([store, users, others]):
                await table.set("k", number)
            assert [await table.get("k") for table in (store, users, others)] == [0, 1, 2]
            assert await users.table().get("k") == 1
            assert await others.table("users", database="micro").get("k") == 1
            assert await store.tables() == ["micro", "users"]
            assert await others.tables() == ["users"]
            assert await store.databases() == ["micro", "other"]
            await others.delete("k")
            assert await store.databases() == ["micro"]

    # Bad input

    @pytest.mark.parametrize("key", ["", "\ud800", None, 7, b"a"])
    async def test_bad_keys(self, opened: Open, key: Any) -> None:
        async with opened() as store:
            for ask in (store.get, store.has, store.delete):
                with pytest.raises(errors.BadRequest):
                    await ask(key)
            with pytest.raises(errors.BadRequest):
                await store.write(key, b"")

    async def test_sizes(self, opened: Open) -> None:
        async with opened() as store:
            await store.write("é" * (MAX_KEY // 2), b"")
            with pytest.raises(errors.TooLarge, match=f"{MAX_KEY + 2} bytes"):
                await store.write("é" * (MAX_KEY // 2 + 1), b"")
            with pytest.raises(errors.TooLarge):
                await store.write("a", bytes(MAX_VALUE + 1))

    @pytest.mark.parametrize(
        "query",
        [
            {"limit": -1},
            {"offset": -1},
            {"offset": 10**30},
            {"limit": "3"},
            {"order": "up"},
            {"prefix": "\ud800"},
            {"suffix": b"a"},
            {"start": 1},
            {"end": "\ud800"},
            {"max_bytes": -1},
            {"key": "a", "prefix": "a"},
        ],
    )
    async def test_bad_queries(self, opened: Open, query: Any) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest):
                await store.read(**query)

    @pytest.mark.parametrize(
        "fields",
        [
            {"value": "text"},
            {"expiry": -1},
            {"expiry": float("nan")},
            {"expiry": float("inf")},
            {"expiry": "10s"},
            {"version": -1},
            {"metadata": {"a": 1}},
            {"metadata": {"a": "\ud800"}},
            {"metadata": [1]},
        ],
    )
    async def test_bad_writes(self, opened: Open, fields: Any) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest):
                await store.write("a", **{"value": b"", **fields})
            assert await store.list() == []

    async def test_a_key_twice_in_a_batch_is_a_bad_request(self, opened: Open) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest, match="twice"):
                await store.batch([Write("a", b""), Delete("a", table="micro")])
            with pytest.raises(errors.BadRequest, match="batch is of"):
                await store.batch(["a"])  # type: ignore[list-item]
            with pytest.raises(errors.BadRequest, match="version is a number"):
                await store.batch([Check("a", None)])  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\ud800", 3])
    async def test_bad_names(self, opened: Open, name: Any) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest, match="no name of a table"):
                store.table(name)
            with pytest.raises(errors.BadRequest, match="no name of a database"):
                store.table(database=name)
