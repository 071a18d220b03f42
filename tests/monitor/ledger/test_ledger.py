"""The ledger: every count is added once, with few writes, whoever gives up in between."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.monitor.ledger import Counts, Subject
from microcosmos.monitor.ledger.interface import MAX_FAILURES, MOST, OTHER, SUMMED
from microcosmos.monitor.ledger.ledger import MAX_VERSIONS, Ledger, Owned
from microcosmos.monitor.ledger.pace import Pace
from microcosmos.store import open_store

from .books import book, line, one, subject


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["w1", "w2", "w3"]),
            st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 5)),
            st.integers(1, 3),
        ),
        max_size=12,
    )
)
def test_what_is_sent_again_is_not_added_again(sent: list[tuple[str, dict[str, int], int]]) -> None:
    async def counted() -> None:
        async with open_store("memory://") as store:
            sequences = {"w1": 0, "w2": 0, "w3": 0}
            expected = {"a": 0, "b": 0}
            for worker, counts, times in sent:
                sequences[worker] += 1
                for name, requests in counts.items():
                    expected[name] += requests
                told = {subject(name): Counts(requests=n) for name, n in counts.items()}
                # Each time by a core that has just been started.
                await asyncio.gather(
                    *(book(store).add(worker, sequences[worker], told) for _ in range(times))
                )
            for name, requests in expected.items():
                assert (await book(store).used(line(name))).requests == requests
            assert (await book(store).used(line())).requests == sum(expected.values())

    asyncio.run(counted())


async def test_those_who_count_together_are_written_together(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        ledger = book(store)
        before = await store.version()
        counts = {subject(f"f{n}"): one() for n in range(50)}
        await asyncio.gather(*(ledger.add(f"w{n}", 1, counts) for n in range(40)))
        assert await store.version() - before < 10
        assert (await ledger.used(line("f7"))).requests == 40
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        assert (await book(store).used(line("f7"))).requests == 40


async def test_what_is_known_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of what was written before: no reads, and one record for each line."""
    said: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: object, **named: object) -> sqlite3.Connection:
        connection = connect(*arguments, **named)  # type: ignore[call-overload]
        connection.set_trace_callback(said.append)
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", watched)
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        ledger = book(store)
        counts = {subject(f"f{n}"): one() for n in range(100)}
        await ledger.add("w", 1, counts)
        for sequence in range(2, 6):
            said.clear()
            await ledger.add("w", sequence, counts)
            # Of a version each, one account and one namespace, and of who counts.
            records = 100 + 3
            begun = [text for text in said if text.startswith("BEGIN")]
            # The store looks at the version of a record before it writes it.
            assert len(begun) == 1
            assert len(said) <= 3 * records + 10


async def test_it_rests_between_writes(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        clock = ManualClock()
        ledger = Ledger(store, pace=Pace(every=0.05, clock=clock))
        written: list[float] = []
        ledger.listen(lambda _: written.append(clock.monotonic()))
        # The first one does not rest: the clock stands still.
        await ledger.add("w0", 1, {subject(): one()})

        async def counting(worker: str) -> None:
            for sequence in range(1, 4):
                await ledger.add(worker, sequence, {subject(): one()})

        counted = asyncio.gather(*(counting(f"w{n}") for n in range(1, 20)))
        while not counted.done():
            await clock.advance(0.01)
        await counted
        assert len(written) <= 5
        assert all(later - earlier >= 0.04 for earlier, later in itertools.pairwise(written))
        assert (await ledger.used(line("shop"))).requests == 1 + 19 * 3


async def test_one_who_gives_up_takes_nobody_along(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        ledger = book(store)
        tasks = [asyncio.create_task(ledger.add(f"w{n}", 1, {subject(): one()})) for n in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [None, None]
        await ledger.add("w0", 1, {subject(): one()})
        assert (await ledger.used(line("shop"))).requests == 3


async def test_whose_something_is_and_what_is_gone() -> None:
    async with open_store("memory://") as store:
        owners = {"a": Owned("ann"), "b": Owned("ben")}

        async def whose(namespace: str, name: str) -> Owned | None:
            return owners.get(name)

        ledger = book(store)
        ledger.belongs("service", whose)
        await ledger.add("w", 1, {subject("a", account=""): one(), subject("gone"): one()})
        assert (await ledger.used(line(account="ann"))).requests == 1
        assert await ledger.used(line("gone")) == Counts()
        assert (await ledger.used(line())).requests == 1


async def test_versions_that_are_too_many_are_counted_together() -> None:
    async with open_store("memory://") as store:
        ledger = book(store)
        for n in range(MAX_VERSIONS + 20):
            await ledger.add(f"w{n}", 1, {subject(version=f"{n}"): one()})
        await ledger.add("last", 1, {subject(version="3"): one()})
        entries = await ledger.reading.find(line("shop"))
        assert len(entries) == MAX_VERSIONS + 1
        assert (await ledger.used(line("shop", "3"))).requests == 2
        assert (await ledger.used(line("shop", ""))).requests == 20
        assert (await ledger.used(line("shop"))).requests == MAX_VERSIONS + 21


async def test_names_that_are_keys_of_others_are_kept_apart() -> None:
    """Whatever stands in names: each subject has a line of its own."""
    strange = ["a", "a/b", "a%2Fb", "a.b", "", "/", "v1", "ü", "a b"]
    async with open_store("memory://") as store:
        ledger = book(store)
        subjects = [
            subject(name, version, account)
            for name in strange
            for version in strange
            for account in strange
        ]
        for n, each in enumerate(subjects):
            await ledger.add(f"w{n}", 1, {each: one()})
        for name in strange:
            assert (await ledger.used(line(name))).requests == len(strange) ** 2
            assert (await ledger.used(line(name, "v1"))).requests == len(strange)
            assert (await ledger.used(line(account=name))).requests == len(strange) ** 2
        page = await ledger.reading.page("v/")
        assert {entry.line.name for entry in page} == set(strange)


async def test_ten_thousand_are_listed_quickly(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        ledger = book(store)
        for start in range(0, 10_000, 1000):
            counts: dict[Subject, Counts] = {
                subject(f"f{n:05}"): one(cpu_ns=1) for n in range(start, start + 1000)
            }
            await ledger.add("w", start + 1, counts)
        began, after, listed, requests = time.perf_counter(), "", 0, 0
        while page := await ledger.reading.page("v/micro/service/", after, 1000):
            after = page[-1].key
            listed += len(page)
            for entry in page:
                requests += (await ledger.reading.used([entry], 1.0)).requests
        took = time.perf_counter() - began
        assert (listed, requests) == (10_000, 10_000)
        # All days of all of them, one after another; alone it takes about a second.
        assert took < 60


def test_a_count_stops_before_it_turns_over() -> None:
    assert Counts(byte_ms=MOST - 1).plus(Counts(byte_ms=5)).byte_ms == MOST


def test_counts_are_added_up_but_for_what_is_the_most() -> None:
    counts = Counts(**dict.fromkeys(SUMMED, 2), heap=5, failures={"a": 1})
    other = Counts(**dict.fromkeys(SUMMED, 3), heap=4, failures={"b": 1, "a": 2}, shared=True)
    total = counts.plus(other)
    assert total == Counts(
        **dict.fromkeys(SUMMED, 5), heap=5, failures={"a": 3, "b": 1}, shared=True
    )
    assert counts.failures == {"a": 1}
    assert set(Counts.__struct_fields__) == {*SUMMED, "heap", "failures", "shared"}


def test_kinds_of_failures_that_are_too_many_are_put_together() -> None:
    counts = Counts()
    for n in range(MAX_FAILURES + 10):
        counts.fail(f"kind{n}")
    assert len(counts.failures) == MAX_FAILURES
    assert counts.failures[OTHER] == 11
    assert counts.errors == sum(counts.failures.values()) == MAX_FAILURES + 10


async def test_a_store_that_fails_is_told_to_all_who_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store("memory://") as store:
        ledger = book(store)
        await ledger.add("w", 1, {subject(): one()})
        full = errors.Unavailable("store", "the disk is full")

        async def refuse(*_: object) -> int:
            raise full

        with monkeypatch.context() as broken:
            broken.setattr(ledger.tables.lines, "batch", refuse)
            adding = (
                ledger.add("w", 2, {subject(): one()}),
                ledger.add("x", 1, {subject(): one()}),
            )
            assert await asyncio.gather(*adding, return_exceptions=True) == [full, full]
        await ledger.add("w", 2, {subject(): one()})
        assert (await ledger.used(line("shop"))).requests == 2
