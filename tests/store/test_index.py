"""Indexes do the same on every backend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import MAX_KEY, Check, Delete, Record, Store, Write, open_store
from microcosmos.store.backend import PURGE_EVERY
from microcosmos.store.index import Entry, Index, Indexed, drop_orphans
from microcosmos.store.index.catalog import ORPHANED, RENEW, SUPERSEDED
from microcosmos.store.index.entry import MAX_ENTRIES, MAX_INLINE, MAX_INLINES
from microcosmos.store.index.keeper import PAGE
from microcosmos.store.watch import REMEMBERED_FOR

from .conformance import Open
from .postgres import Postgres
from .test_service import Hall


async def until(true: Callable[[], Awaitable[Any]]) -> Any:
    """What a question gives, once that is something."""
    async with asyncio.timeout(60):
        while True:
            if answer := await true():
                return answer
            await asyncio.sleep(0)


def email(value: Any) -> Any:
    return value["email"]


def tags(value: Any) -> Any:
    return [Entry(tag, place) for place, tag in enumerate(value["tags"])]


async def keys(index: Index, *index_key: Any, **query: Any) -> list[str]:
    """The records that an index finds, under a key or in a range."""
    rows = await index.get(*index_key) if index_key else await index.read(**query)
    return [row.key for row in rows]


class IndexConformance:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def indexed(self, opened: Open, clock: ManualClock) -> Any:
        """A store, and one over it that has indexes."""

        @asynccontextmanager
        async def both() -> AsyncIterator[tuple[Store, Indexed]]:
            async with opened() as plain, Indexed(plain, clock=clock) as store:
                yield plain, store

        return both

    async def test_rows_have_key_index_key_inline_value_and_value(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", lambda v: Entry(v["email"], {"age": v["age"]}))
            await store.set("ann", {"email": "a@x", "age": 7})
            [row] = await index.get("a@x")
            assert (row.key, row.index_key, row.inline_value) == ("ann", "a@x", {"age": 7})
            assert row.value is None
            [row] = await index.get("a@x", values=True)
            assert row.value == {"email": "a@x", "age": 7}
            assert await index.get("a@") == []

    async def test_entries_follow_every_kind_of_write(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", email)
            await store.set("a", {"email": "1"})
            await store.write("b", b'{"email": "1"}')
            await store.batch([Write("c", b'{"email": "1"}'), Delete("a")])
            assert await keys(index, "1") == ["b", "c"]
            await store.modify("b", lambda value: {**value, "email": "2"})
            await store.modify("n", lambda _: {"email": "2"})
            assert (await keys(index, "1"), await keys(index, "2")) == (["c"], ["b", "n"])
            await store.delete("c")
            await store.set("b", None)
            await store.modify("n", lambda _: None)
            assert await index.count() == 0
            # Nothing stays behind, for the entries went with the records.
            assert await store.part("index/by_email/1").list() == []

    async def test_none_one_and_many_entries(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_tag", tags)
            await store.set("none", {"tags": []})
            await store.set("many", {"tags": ["x", "y", "x"]})
            rows = await index.read()
            assert [(row.index_key, row.key, row.inline_value) for row in rows] == [
                ("x", "many", 0),
                ("x", "many", 2),
                ("y", "many", 1),
            ]
            await store.delete("many")
            assert await index.read() == []
            quiet = store.index("quiet", lambda value: value.get("nothing"))
            assert await quiet.read() == []

    async def test_the_indexer_gets_the_key_if_it_takes_two_arguments(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("mirror", lambda value, key: f"{value}/{key}")
            await store.set("k", 1)
            assert await keys(index, "1/k") == ["k"]
            upper = store.table("texts").index("lower", str.lower)
            await store.table("texts").set("k", "ABC")
            assert await keys(upper, "abc") == ["k"]

    async def test_ranges_prefixes_orders_and_pages(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_it", lambda value: value)
            values = ["b", -2, "ab", True, 10, 2.5, "a", False, 2]
            for at, value in enumerate(values):
                await store.set(str(at), value)
            rows = await index.read()
            assert [row.index_key for row in rows] == [False, True, -2, 2, 2.5, 10, "a", "ab", "b"]

            async def found(**query: Any) -> list[Any]:
                return [row.index_key for row in await index.read(**query)]

            assert await found(prefix="a") == ["a", "ab"]
            assert await found(start=2, end=10) == [2, 2.5]
            assert await found(start=2.0, order="desc", limit=2) == ["b", "ab"]
            assert await found(end="a", start=3) == [10]
            seen, after = [], ""
            while page := await index.read(limit=2, order="desc", after=after):
                seen += [row.index_key for row in page]
                after = page[-1].cursor
            assert seen == [row.index_key for row in rows][::-1]
            assert [await index.count(), await index.count(prefix="a")] == [9, 2]
            assert await index.count(start=2, end=3) == 2

    async def test_more_rows_than_a_page(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("same", lambda _: "x")
            wanted = [f"{number:04}" for number in range(250)]
            await store.batch([Write(key, b"1") for key in wanted])
            assert await keys(index, "x") == wanted
            assert await keys(index, limit=240) == wanted[:240]
            assert await index.count() == 250

    async def test_long_keys_and_keys_with_any_character(self, indexed: Any) -> None:
        names = ["a\x00", "a", "é" * (MAX_KEY // 2), "é" * (MAX_KEY // 2 - 1) + "aa", "\x00\x01"]
        async with indexed() as (_, store):
            index = store.index("all", lambda _, key: ["x" * 400, key[:3]])
            for name in names:
                await store.set(name, 1)
            assert sorted(await keys(index, "x" * 400)) == sorted(names)
            assert await keys(index, "a\x00") == ["a\x00"]
            for name in names:
                await store.delete(name)
            assert await store.part("index/all/1").list() == []

    # Refusals

    async def test_a_value_that_cannot_be_indexed_is_refused(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            store.index("by_email", email)
            with pytest.raises(
                errors.BadRequest, match=r"index by_email of table \S+ .*'k': KeyErr"
            ):
                await store.set("k", {})
            with pytest.raises(errors.BadRequest, match="JSON"):
                await store.write("k", b"\xff{")
            with pytest.raises(errors.BadRequest, match="not list"):
                await store.set("k", {"email": [["a"]]})
            with pytest.raises(errors.BadRequest, match="not NoneType"):
                await store.set("k", {"email": [None]})
            with pytest.raises(errors.BadRequest, match="KeyError"):
                await store.batch([Write("other", b'{"email": "x"}'), Write("k", b"{}")])
            assert await store.list() == []

    async def test_limits(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            store.index("many", lambda value: value.get("many"))
            store.index("inline", lambda v: [Entry(n, "x" * v["size"]) for n in range(v["n"])])
            good = {"size": 0, "n": 0}
            await store.set("k", {**good, "many": list(range(MAX_ENTRIES))})
            with pytest.raises(errors.TooLarge, match="entries"):
                await store.set("k", {**good, "many": list(range(MAX_ENTRIES + 1))})
            with pytest.raises(errors.TooLarge, match="index key"):
                await store.set("k", {**good, "many": "x" * 401})
            with pytest.raises(errors.TooLarge, match="inline value"):
                await store.set("k", {"size": MAX_INLINE, "n": 1})
            with pytest.raises(errors.TooLarge, match="inline values"):
                await store.set("k", {"size": MAX_INLINE - 2, "n": MAX_INLINES // MAX_INLINE + 1})

    async def test_bad_declarations(self, indexed: Any) -> None:
        async def later(value: Any) -> None: ...

        async with indexed() as (_, store):
            index = store.index("by_email", email)
            assert store.index("by_email", email) is index
            assert store.table().index("by_email", email) is index
            for args in [
                ("", email),
                ("a/b", email),
                ("a", None),
                ("a", later),
                ("by_email", tags),
            ]:
                with pytest.raises(errors.BadRequest):
                    store.index(*args)
            with pytest.raises(errors.BadRequest, match="a value and a key"):
                store.index("a", lambda a, b, c: 1)
            with pytest.raises(errors.BadRequest, match="version"):
                store.index("a", email, version="1 2")
            with pytest.raises(errors.BadRequest, match="no name of a table"):
                store.table("t" * 90).index("by_email", email)

    async def test_bad_questions(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", email)
            for query in [
                {"limit": -1},
                {"limit": "1"},
                {"order": "up"},
                {"prefix": 7},
                {"after": 7},
                {"start": b"a"},
                {"end": float("nan")},
                {"prefix": "\ud800"},
            ]:
                with pytest.raises(errors.BadRequest):
                    await index.read(**query)
            with pytest.raises(errors.BadRequest):
                await index.get(None)

    # Versions, expiry, several writers

    async def test_compare_and_set_is_of_the_record(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", email)
            first = await store.write("k", b'{"email": "1"}', version=0)
            with pytest.raises(errors.Conflict, match="'k' is at version"):
                await store.write("k", b'{"email": "2"}', version=0)
            with pytest.raises(errors.Conflict, match="'k' is at version"):
                await store.batch([Write("x", b'{"email": "3"}'), Check("k", first + 9)])
            await store.write("k", b'{"email": "2"}', version=first)
            with pytest.raises(errors.Conflict):
                await store.delete("k", version=first)
            assert await keys(index, "2") == ["k"]

    async def test_of_many_creators_all_end_right(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            index = store.index("by_email", email)
            async with Indexed(plain) as second:
                twin = second.index("by_email", email)
                writers = [
                    one.set("k", {"email": str(n)}) for n in range(8) for one in (store, second)
                ]
                await asyncio.gather(*writers)
                now = (await store.get("k"))["email"]
                for one in (index, twin):
                    assert [row.index_key for row in await one.read()] == [now]
                assert await plain.part("index/by_email/1").count(prefix="e") == 1

    async def test_modify_loses_no_change(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("n", lambda value: value)
            changes = [store.modify("k", lambda n: (n or 0) + 1) for _ in range(10)]
            await asyncio.gather(*changes, store.modify("other", lambda _: 3))
            assert [(row.key, row.index_key) for row in await index.read()] == [
                ("other", 3),
                ("k", 10),
            ]

    async def test_a_row_is_found_while_its_record_changes(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", email)
            await store.set("k", {"email": "a", "n": 0})

            async def write() -> None:
                for n in range(30):
                    await store.set("k", {"email": "a", "n": n})

            writing = asyncio.create_task(write())
            while not writing.done():
                assert await keys(index, "a") == ["k"]
            await writing

    async def test_an_expired_record_is_not_found(self, indexed: Any, clock: ManualClock) -> None:
        async with indexed() as (_, store):
            index = store.index("by_email", email)
            await store.set("k", {"email": "a"}, expiry=10)
            await store.set("stays", {"email": "a"}, expiry=10)
            await store.set("stays", {"email": "a"})
            assert await keys(index, "a") == ["k", "stays"]
            await clock.advance(10)
            assert await keys(index, "a") == ["stays"]
            assert await store.part("index/by_email/1").count(prefix="e") == 1

    async def test_each_table_has_its_own(self, indexed: Any) -> None:
        async with indexed() as (_, store):
            other = store.table("other")
            first, second = store.index("it", lambda v: v), other.index("it", lambda v: v)
            main, name = store.scope[1], other.scope[1]
            await other.batch([Write("a", b"1"), Write("b", b"2", table=main)])
            assert (await keys(first), await keys(second)) == (["b"], ["a"])
            await store.batch([Delete("a", table=name), Write("c", b"3", table=name)])
            assert (await keys(first), await keys(second)) == (["b"], ["c"])

    # What is written past the index

    async def test_what_others_write_is_repaired(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            index = store.index("by_email", email)
            await store.set("a", {"email": "1"})
            await store.set("b", {"email": "1"})
            await index.wait()
            await plain.set("a", {"email": "2"})
            await plain.delete("b")
            assert await index.get("1") == []
            assert await until(lambda: index.get("2"))
            entries = plain.part("index/by_email/1")
            await until(lambda: _none(entries.list("rb")))
            assert await entries.count(prefix="e") == 1

    async def test_a_row_that_others_made_stale_is_repaired_at_once(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            index = store.index("by_email", email)
            await store.set("a", {"email": "1", "n": 1})
            await plain.set("a", {"email": "1", "n": 2})
            [row] = await index.get("1", values=True)
            assert row.value["n"] == 2

    async def test_what_others_write_while_nobody_looks_is_repaired(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as plain:
            await _filled(plain, clock)
            await plain.set("1", {"email": "new"})
            await plain.delete("2")
            await plain.set("9", {"email": "new"})
            async with Indexed(plain, clock=clock) as store:
                index = store.index("by_email", email)
                await until(lambda: _is(keys(index, "new"), ["1", "9"]))
                assert await keys(index) == ["1", "9", "0"]

    async def test_changes_that_are_forgotten_are_found_by_comparing(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as plain:
            await _filled(plain, clock)
            await plain.set("1", {"email": "new"})
            await plain.delete("2")
            # The deletes are forgotten, and so it cannot be watched since then.
            await clock.advance(REMEMBERED_FOR)
            await until(lambda: _forgotten(plain, clock))
            async with Indexed(plain, clock=clock) as store:
                index = store.index("by_email", email)
                await until(lambda: _is(keys(index), ["1", "0"]))
                entries = plain.part("index/by_email/1")
                await until(lambda: _is(entries.list("r"), ["r0", "r1"]))

    async def test_records_copied_from_another_store_are_compared(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as plain:
            for number in range(30):
                await plain.set(str(number), number)
            await _filled(plain, clock)
            parts = [plain, plain.part("index"), plain.part("index/by_email/1")]
            copies = [await part.read() for part in parts]
        async with open_store("memory://", clock=clock) as other:
            places = [other, other.part("index"), other.part("index/by_email/1")]
            for place, records in zip(places, copies, strict=True):
                await place.batch([Write(record.key, record.value) for record in records])
            for number in range(60):
                await other.table("more").set("k", number)
            async with Indexed(other, clock=clock) as store:
                index = store.index("by_email", email)
                await until(lambda: _is(keys(index), ["0", "1", "2"]))

    async def test_what_the_indexer_fails_on_is_counted(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            await plain.set("good", {"email": "1"})
            await plain.set("bad", {})
            index = store.index("by_email", email)
            await index.wait()
            assert await keys(index) == ["good"]
            assert (await index.status()).skipped == 1
            [failure] = await index.failures()
            assert (failure.key, "KeyError" in failure.reason) == ("bad", True)
            await store.set("bad", {"email": "1"})
            assert (await index.status()).skipped == 0
            assert await keys(index, "1") == ["bad", "good"]

    # Rebuilds

    async def test_an_index_of_a_full_table_is_built(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            wanted = [f"{number:04}" for number in range(2 * PAGE + 10)]
            await plain.batch([Write(key, b'{"email": "x"}') for key in wanted])
            index = store.index("by_email", email)
            assert await keys(index, "x") == wanted
            status = await index.status()
            assert (status.state, status.skipped, status.version) == ("ready", 0, "1")

    async def test_old_entries_serve_until_the_new_are_complete(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as plain:
            await _filled(plain, clock)
            # Not entered, so nothing is built: this is how it is right after the start.
            store = Indexed(plain, clock=clock)
            index = store.index("by_email", lambda v: [v["email"], "extra"], version="2")
            assert await keys(index, "x") == ["0", "1", "2"]
            assert (await index.status()).state == "rebuilding"
            await store.set("1", {"email": "y"})
            await store.set("3", {"email": "x"})
            await store.delete("2")
            assert await keys(index, "x") == ["0", "3"]
            assert await keys(index) == ["1", "3", "0", "3", "1"]
            assert await keys(index, order="desc") == ["1", "3", "0", "3", "1"][::-1]
            async with store:
                await index.wait()
                assert await keys(index, "extra") == ["0", "1", "3"]
                assert (await index.status()).state == "ready"

    @pytest.mark.parametrize("seed", range(3))
    async def test_writers_and_a_rebuild_at_once(
        self, opened: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        monkeypatch.setattr("microcosmos.store.index.keeper.PAGE", 5)
        chance = random.Random(seed)

        async def write(store: Store, times: int) -> None:
            for _ in range(times):
                key = str(chance.randrange(10))
                kind = chance.randrange(4)
                if kind == 0:
                    await store.delete(key)
                elif kind == 1:
                    await store.modify(key, lambda old: [*(old or []), 1][-3:])
                else:
                    await store.set(key, [chance.randrange(4)])

        async with opened() as plain:
            for number in range(10):
                await plain.set(str(number), [number])
            async with Indexed(plain, clock=clock) as store, Indexed(plain, clock=clock) as twin:
                indexes = [one.index("it", _each) for one in (store, twin)]
                writers = [write(one, 15) for one in (store, twin, store, plain)]
                await asyncio.gather(*writers)
                wanted = [(each, r.key) for r in await plain.read() for each in _each_of(r)]
                for index in indexes:
                    await until(lambda index=index: _is(_pairs(index), sorted(wanted)))
                entries = plain.part("index/it/1")
                await until(lambda: _is(entries.count(prefix="e"), len(wanted)))

    async def test_two_versions_of_a_program_run_side_by_side(self, indexed: Any) -> None:
        async with indexed() as (plain, store):
            old = store.index("by_it", lambda v: v["a"])
            async with Indexed(plain) as updated:
                new = updated.index("by_it", lambda v: v["b"], version="2")
                await store.set("k", {"a": 1, "b": 2})
                await until(lambda: new.get(2))
                await updated.set("k", {"a": 3, "b": 4})

                async def moved() -> bool:
                    found = [await keys(old, 1), await keys(new, 2)]
                    found += [await keys(old, 3), await keys(new, 4)]
                    return found == [[], [], ["k"], ["k"]]

                # What the other program has written, this one's index follows.
                await until(moved)

    async def test_an_index_that_is_not_built_says_so(
        self, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("microcosmos.store.index.index.BUILD_WAIT", 0.01)
        async with opened() as plain:
            index = Indexed(plain).index("by_email", email)
            with pytest.raises(errors.Unavailable, match=r"by_email of table .* is being built"):
                await index.get("x")

    # Orphans

    async def test_a_superseded_version_is_dropped(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as plain:
            await _filled(plain, clock)
            async with Indexed(plain, clock=clock) as store:
                index = store.index("by_email", email, version="2")
                await index.wait()
                await clock.advance(SUPERSEDED - RENEW)
                assert await plain.part("index/by_email/1").list() != []
                while await plain.part("index/by_email/1").list():
                    await clock.advance(RENEW / 4)
                assert await keys(index, "x") == ["0", "1", "2"]

    async def test_a_version_in_use_is_not_dropped(self, indexed: Any, clock: ManualClock) -> None:
        async with indexed() as (plain, store):
            old = store.index("by_email", email)
            await store.set("k", {"email": "x"})
            async with Indexed(plain, clock=clock) as updated:
                new = updated.index("by_email", email, version="2")
                await new.wait()
                end = clock.time() + 2 * SUPERSEDED
                while (declared := await _declared(plain, "by_email")) < end:
                    await clock.advance(RENEW / 10)
                    # The clock does not wait for the disk, but this does.
                    await plain.set("k", {"email": "x"})
                    assert clock.time() - declared < SUPERSEDED
                    assert await drop_orphans(plain, clock=clock) == []
                assert (await keys(old, "x"), await keys(new, "x")) == (["k"], ["k"])

    async def test_an_index_that_nobody_declares_is_dropped(
        self, opened: Open, clock: ManualClock
    ) -> None:
        async with opened() as plain:
            await _filled(plain, clock)
            assert await drop_orphans(plain, clock=clock) == []
            await clock.advance(ORPHANED + 1)
            table = plain.scope[1]
            assert await drop_orphans(plain, clock=clock) == [f"{table}/by_email/1"]
            await until(lambda: _is(plain.tables(), [table]))
            async with Indexed(plain, clock=clock) as store:
                index = store.index("by_email", email)
                assert await keys(index, "x") == ["0", "1", "2"]

    async def test_nothing_runs_once_it_is_left(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as plain:
            async with Indexed(plain, clock=clock) as store:
                store.index("by_email", email)
                await store.index("by_tag", lambda _: None).wait()
                await store.set("k", {"email": "x"})
                assert len(_work()) == 2
            assert _work() == []

    async def test_a_plain_table_is_as_it_was(self, indexed: Any) -> None:
        class Point(msgspec.Struct):
            x: int

        async with indexed() as (plain, store):
            version = await store.write("k", b"raw", metadata={"a": "b"})
            assert await store.read("k") == await plain.read("k")
            assert await store.read(prefix="k") == [await plain.read("k")]
            await store.modify("p", lambda p: Point(p.x + 1) if p else Point(1), Point)
            assert (await store.get("p", Point), await store.get("p")) == (Point(1), {"x": 1})
            assert await store.list() == ["k", "p"] == [key async for key in store.all_keys()]
            assert (await store.count(), await store.has("k")) == (2, True)
            assert await store.version() >= version
            assert await store.tables() == await plain.tables()
            assert await store.databases() == await plain.databases()
            async with store.watch(since=version) as changes, store.frozen() as view:
                assert (await anext(aiter(changes))).key == "p"
                assert await view.has("p")


async def _filled(plain: Store, clock: ManualClock) -> None:
    """Three records, and an index of them that was complete."""
    async with Indexed(plain, clock=clock) as store:
        index = store.index("by_email", email)
        for number in range(3):
            await store.set(str(number), {"email": "x"})
        await index.wait()


def _each(value: Any) -> Any:
    return value


def _each_of(record: Record) -> list[int]:
    return list(msgspec.json.decode(record.value))


async def _pairs(index: Index) -> list[tuple[Any, str]]:
    return [(row.index_key, row.key) for row in await index.read()]


async def _none(asked: Awaitable[list[Any]]) -> bool:
    return not await asked


async def _is(asked: Awaitable[Any], wanted: Any) -> bool:
    return bool(await asked == wanted)


async def _forgotten(plain: Store, clock: ManualClock) -> bool:
    await clock.advance(PURGE_EVERY)
    try:
        async with plain.watch(since=0):
            return False
    except errors.Conflict:
        return True


async def _declared(plain: Store, id: str) -> float:
    """When every version of an index was declared at the latest."""
    plan = await plain.part("index").get(id)
    assert set(plan["versions"]) == {"1", "2"}
    return min(build["declared"] for build in plan["versions"].values())


def _work() -> list[Any]:
    """What runs of the indexes."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("the index")]


class TestMemory(IndexConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        return lambda: open_store("memory://", clock=clock)


class TestSQLite(IndexConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, tmp_path: Path) -> Open:
        return lambda: open_store(f"sqlite://{tmp_path}/store.db", clock=clock)


class TestPostgres(IndexConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, postgres: Postgres) -> Open:
        url = postgres.empty()
        return lambda: open_store(url, clock=clock)


class TestOverRpc(IndexConformance):
    """A service's own table, by its account."""

    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            async with open_store("memory://", clock=clock) as store:
                yield Hall(store, verified=True).of("shop")

        return opened

    # The core does that, which sees the tables of all.
    test_an_index_that_nobody_declares_is_dropped = None  # type: ignore[assignment]
