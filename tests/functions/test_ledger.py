"""The ledger: every count is added once, whoever dies in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.functions.heads import Tables
from microcosmos.functions.interface import Counts
from microcosmos.functions.ledger import MOST, Ledger, added
from microcosmos.store import Store, open_store

from .plane import draft, opened


def ledger(store: Store) -> Ledger:
    tables = Tables(store)
    return Ledger(tables.heads, tables.counts, tables.told)


async def there(store: Store, *keys: str) -> None:
    for key in keys:
        await Tables(store).heads.write(key, b"{}")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["w1", "w2", "w3"]),
            st.dictionaries(st.sampled_from(["micro/a", "micro/b"]), st.integers(0, 5)),
            st.integers(1, 3),
        ),
        max_size=12,
    )
)
def test_what_is_sent_again_is_not_added_again(sent: list[tuple[str, dict[str, int], int]]) -> None:
    async def counted() -> None:
        async with open_store("memory://") as store:
            await there(store, "micro/a", "micro/b")
            sequences = {"w1": 0, "w2": 0, "w3": 0}
            expected = {"micro/a": 0, "micro/b": 0}
            for worker, counts, times in sent:
                sequences[worker] += 1
                for key, requests in counts.items():
                    expected[key] += requests
                told = {key: Counts(requests=requests) for key, requests in counts.items()}
                # Each time by a core that has just been started.
                await asyncio.gather(
                    *(ledger(store).add(worker, sequences[worker], told) for _ in range(times))
                )
            for key, requests in expected.items():
                assert (await ledger(store).of(key)).requests == requests

    asyncio.run(counted())


async def test_those_who_count_together_are_written_together(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        await there(store, *(f"micro/f{n}" for n in range(50)))
        book = ledger(store)
        before = await store.version()
        await asyncio.gather(
            *(
                book.add(f"w{n}", 1, {f"micro/f{m}": Counts(requests=1) for m in range(50)})
                for n in range(40)
            )
        )
        assert await store.version() - before < 10
        assert (await book.of("micro/f7")).requests == 40
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        assert (await ledger(store).of("micro/f7")).requests == 40


async def test_two_cores_on_one_store_lose_nothing() -> None:
    async with open_store("memory://") as store:
        await there(store, "micro/a")
        books = ledger(store), ledger(store)
        await asyncio.gather(
            *(
                books[n % 2].add(f"w{n}", 1, {"micro/a": Counts(requests=1, cpu_ns=n)})
                for n in range(50)
            )
        )
        assert (await books[0].of("micro/a")) == Counts(requests=50, cpu_ns=sum(range(50)))


async def test_one_who_gives_up_takes_nobody_along(tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        await there(store, "micro/a")
        book = ledger(store)
        tasks = [
            asyncio.create_task(book.add(f"w{n}", 1, {"micro/a": Counts(requests=1)}))
            for n in range(3)
        ]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [None, None]
        await book.add("w0", 1, {"micro/a": Counts(requests=1)})
        assert (await book.of("micro/a")).requests == 3


async def test_what_is_gone_is_passed_over() -> None:
    async with open_store("memory://") as store:
        await there(store, "micro/a")
        book = ledger(store)
        one = Counts(requests=1)
        await book.add("w", 1, {"micro/a": one, "micro/gone": one})
        assert await book.of("micro/a") == one
        assert await book.of("micro/gone") == Counts()


def test_a_count_stops_before_it_turns_over() -> None:
    assert added(Counts(byte_ms=MOST - 1), Counts(byte_ms=5)).byte_ms == MOST


@pytest.mark.parametrize("counts", [Counts(requests=-1), Counts(cpu_ns=-1)])
async def test_counts_that_cannot_be_are_refused(counts: Counts) -> None:
    async with opened() as plane:
        with pytest.raises(errors.BadRequest, match="one of 'micro/a' is negative"):
            await plane.platform.count("w", 1, {"micro/a": counts})


async def test_consumption_is_what_was_counted() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        counts: dict[str, Any] = {name: n for n, name in enumerate(Counts.__struct_fields__)}
        await plane.platform.count("w", 1, {"micro/hello": Counts(**counts)})
        await plane.platform.count("w", 1, {"micro/hello": Counts(**counts)})
        assert await functions.consumption("hello") == Counts(**counts)
        await functions.deploy(draft(code="2"))
        assert await functions.consumption("hello") == Counts(**counts)
