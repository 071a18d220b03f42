"""What every store does, written once; `test_backends` runs it on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import MAX_KEY, MAX_VALUE, Delete, Record, Store, Write

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


class StoreConformance:
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

    @pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\ud800", 3])
    async def test_bad_names(self, opened: Open, name: Any) -> None:
        async with opened() as store:
            with pytest.raises(errors.BadRequest, match="no name of a table"):
                store.table(name)
            with pytest.raises(errors.BadRequest, match="no name of a database"):
                store.table(database=name)
