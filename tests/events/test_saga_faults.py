"""Sagas with every step failing at every place, and the process dying at every operation.

Whatever happens, money is conserved, and a transfer is done or undone, and nothing between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.events.memory import MemoryLog
from microcosmos.events.saga import Attempt, Progress, Refused, Saga, Step
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.store import Store, open_store

from .money import DONE, START, STEPS, Bank, Faults, Transfer, add, balances, opened, transfers
from .mortal import Life, MortalLog, process, seen_by, until

LEASE = 0.1
ALWAYS = 10_000

WAYS = pytest.mark.parametrize("elsewhere", [False, True], ids=["own store", "another's"])


@asynccontextmanager
async def bank(elsewhere: bool, url: str = "memory://") -> AsyncIterator[tuple[Store, Store]]:
    """The store of the sagas, and that of the accounts: the same one, or another's."""
    async with open_store(url) as store, open_store("memory://") as other:
        yield store, await opened(other if elsewhere else store)


def saga_of(faults: Faults, accounts: Store, elsewhere: bool, **step: Any) -> Saga[Transfer]:
    return transfers(faults, Bank(accounts) if elsewhere else None, **step)


def check(ended: Progress, found: dict[str, int]) -> None:
    """Nothing is between the two ends."""
    assert sum(found.values()) == sum(START.values())
    assert (ended.status, found) in [("done", DONE), ("undone", START)]


# Failures.


@WAYS
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_now_and_then_is_done(
    step: str, when: str, elsewhere: bool
) -> None:
    faults = Faults()
    faults.times[f"{step} {when}"] = 2
    async with bank(elsewhere) as (store, accounts):
        async with saga_of(faults, accounts, elsewhere).on(store) as saga:
            await saga.start("t1", Transfer())
            ended = await saga.result("t1")
        assert (ended.status, await balances(accounts)) == ("done", DONE)
        assert ended.steps[step].attempts == 3


@WAYS
@pytest.mark.parametrize(
    "error",
    [
        lambda: ValueError("oh"),
        lambda: errors.DeadlineExceeded("bank", "late"),
        lambda: errors.BadRequest("bank", "no"),
        lambda: errors.Conflict("bank", "no"),
        lambda: asyncio.CancelledError(),
        lambda: SystemExit(1),
    ],
    ids=["bug", "late", "bad", "conflict", "cancelled", "exit"],
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_for_good_is_undone(
    step: str, when: str, error: Callable[[], BaseException], elsewhere: bool
) -> None:
    faults = Faults(error)
    faults.times[f"{step} {when}"] = ALWAYS
    async with bank(elsewhere) as (store, accounts):
        async with saga_of(faults, accounts, elsewhere).on(store) as saga:
            await saga.start("t1", Transfer())
            ended = await saga.result("t1")
        assert (ended.status, await balances(accounts)) == ("undone", START)
        assert ended.error.startswith(f"{step}: ")


@WAYS
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_refuses_is_undone(step: str, elsewhere: bool) -> None:
    faults = Faults(lambda: Refused("no"))
    faults.times[f"{step} before"] = ALWAYS
    async with bank(elsewhere) as (store, accounts):
        async with saga_of(faults, accounts, elsewhere).on(store) as saga:
            await saga.start("t1", Transfer())
            ended = await saga.result("t1")
        assert (ended.status, await balances(accounts)) == ("undone", START)


@WAYS
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("undo", STEPS)
@pytest.mark.parametrize("fails", ["credit before", "credit after"])
async def test_an_undo_that_fails_now_and_then_is_done(
    fails: str, undo: str, when: str, elsewhere: bool
) -> None:
    faults = Faults()
    faults.times[fails] = ALWAYS
    faults.times[f"undo {undo} {when}"] = 3
    async with bank(elsewhere) as (store, accounts):
        async with saga_of(faults, accounts, elsewhere).on(store) as saga:
            await saga.start("t1", Transfer())
            ended = await saga.result("t1")
        assert (ended.status, await balances(accounts)) == ("undone", START)
        assert ended.steps[undo].undos == 4


@WAYS
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("undo", STEPS)
async def test_an_undo_that_fails_for_good_waits_for_people_and_is_done_then(
    undo: str, when: str, elsewhere: bool
) -> None:
    faults = Faults()
    faults.times["credit after"] = faults.times[f"undo {undo} {when}"] = ALWAYS
    async with bank(elsewhere) as (store, accounts):
        async with saga_of(faults, accounts, elsewhere).on(store) as saga:
            await saga.start("t1", Transfer())
            assert (await saga.result("t1")).status == "stuck"
            faults.times.clear()
            await saga.resume("t1")
            ended = await saga.result("t1")
        assert (ended.status, await balances(accounts)) == ("undone", START)


async def test_a_call_that_comes_late_after_its_undo_does_nothing() -> None:
    """A try that its saga gave up goes on elsewhere, and arrives when all is undone."""
    faults, late = Faults(), asyncio.Event()
    faults.times["credit before"] = ALWAYS
    async with bank(True) as (store, accounts):
        there = Bank(accounts)
        async with saga_of(faults, accounts, True).on(store) as saga:
            await saga.start("t1", Transfer())
            ended = await saga.result("t1")
        late.set()
        await there.change("transfer/t1/credit", "bob", 29)
        check(ended, await balances(accounts))


# Deaths.


async def _dies(
    at: int, after: bool, elsewhere: bool, failing: str, url: str = "memory://"
) -> tuple[bool, str]:
    """A process begins a transfer and dies at an operation; another one is there.

    Returns:
        Whether the first one came to its end, and how it ended.
    """
    async with bank(elsewhere, url) as (store, accounts):
        life = Life(at, after=after)
        faults = Faults()
        if failing:
            faults.times[failing] = ALWAYS
        own = seen_by(accounts, life)
        # On a slow machine leases end while their holder lives, and each of these takes a try.
        tries = {} if failing else {"retry_limit": -1}
        mine = saga_of(faults, own, elsewhere, **tries)

        async def work() -> None:
            async with mine.on(seen_by(store, life), lease=LEASE):
                await mine.start("t1", Transfer())
                await mine.result("t1")

        async with process(work(), life) as task:
            dying = asyncio.ensure_future(life.dead.wait())
            await asyncio.wait([task, dying], return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            lived = task.done()
            other = saga_of(faults, accounts, elsewhere, **tries)
            async with other.on(store, lease=LEASE):
                try:
                    ended = await asyncio.wait_for(other.result("t1"), 60)
                except errors.NotFound:
                    # It died before it had begun, and said so to nobody.
                    assert await balances(accounts) == START
                    return lived, "never"
            check(ended, await balances(accounts))
        # The dead are not heard of any more.
        check(ended, await balances(accounts))
        return lived, ended.status


@WAYS
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("failing", "end"), [("", "done"), ("fee after", "undone"), ("credit before", "undone")]
)
async def test_a_death_anywhere_changes_neither_the_sum_nor_the_end(
    failing: str, end: str, after: bool, elsewhere: bool
) -> None:
    places = range(90)
    results = await asyncio.gather(*(_dies(at, after, elsewhere, failing) for at in places))
    deaths = [ended for lived, ended in results if not lived]
    assert {ended for ended in deaths if ended != "never"} == {end}
    assert len(deaths) > 15
    assert results[0] == (True, end)


async def test_a_death_anywhere_in_a_file(tmp_path: Path) -> None:
    places = range(1, 40, 3)
    urls = (f"sqlite://{tmp_path / f'{at}.db'}" for at in places)
    runs = (
        _dies(at, True, False, "credit after", url) for at, url in zip(places, urls, strict=True)
    )
    results = await asyncio.gather(*runs)
    assert {ended for _, ended in results} <= {"undone", "never"}


@WAYS
async def test_one_death_after_another(elsewhere: bool) -> None:
    """Nobody lives longer than a few operations, and all the same it comes to an end."""
    faults = Faults()
    faults.times["credit after"] = 2
    async with bank(elsewhere) as (store, accounts):
        lived = 0
        async with saga_of(faults, accounts, elsewhere).on(store, lease=LEASE) as first:
            first._runner._leaving.set()  # type: ignore[union-attr]
            await first.start("t1", Transfer())
        for _ in range(60):
            life = Life(10 + lived % 12, after=bool(lived % 2))
            saga = saga_of(faults, seen_by(accounts, life), elsewhere, retry_limit=50)

            async def work(saga: Saga[Transfer] = saga, life: Life = life) -> None:
                async with saga.on(seen_by(store, life), lease=LEASE / 2):
                    await life.dead.wait()

            async def over(life: Life = life) -> bool:
                # Who has come to the end does nothing more that it could die of.
                return life.dead.is_set() or await _ended(store)

            async with process(work(), life):
                await until(over)
            lived += 1
            if await _ended(store):
                break
        async with saga_of(Faults(), accounts, elsewhere).on(store, lease=LEASE) as last:
            check(await last.result("t1"), await balances(accounts))
        assert 3 < lived < 60


async def _ended(store: Store) -> bool:
    record = await store.part("sagas").read("transfer/saga/t1")
    return b'"status":"done"' in record.value


@WAYS
async def test_a_process_that_was_thought_dead_changes_nothing(elsewhere: bool) -> None:
    """It is stopped in the middle of a step, and goes on when another one has done all."""
    faults, life = Faults(), Life()
    async with bank(elsewhere) as (store, accounts):
        mine = saga_of(faults, seen_by(accounts, life), elsewhere)
        async with mine.on(seen_by(store, life), lease=LEASE):
            await mine.start("t1", Transfer())

            async def begun() -> bool:
                return faults.passed["fee before"] > 0

            await until(begun)
            life.dead.set()
            other = saga_of(faults, accounts, elsewhere)
            async with other.on(store, lease=LEASE):
                ended = await asyncio.wait_for(other.result("t1"), 60)
                life.dead.clear()
                life._gone.set()
                await asyncio.sleep(LEASE)
                check(ended, await balances(accounts))
                assert await other.get("t1") == ended


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.dictionaries(
        st.sampled_from(
            [
                f"{undo}{step} {when}"
                for undo in ("", "undo ")
                for step in STEPS
                for when in ("before", "after")
            ]
        ),
        st.integers(0, 4),
        max_size=5,
    ),
    st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=2),
    st.integers(1, 4),
)
@settings(max_examples=20, deadline=None)
def test_whatever_interleaves_and_fails_and_dies_money_is_conserved(
    turns: list[int], failing: dict[str, int], deaths: list[tuple[int, bool]], count: int
) -> None:
    """Transfers between the same accounts, with faults and deaths, on three replicas."""

    async def main() -> None:
        async with bank(False) as (store, accounts):
            lives = [Life(at, after=after, turns=cycle(turns)) for at, after in deaths]
            lives += [Life(turns=cycle(reversed(turns)))]
            sagas = []
            for life in lives:
                faults = Faults()
                faults.times.update(failing)
                sagas.append((life, transfers(faults, undo_limit=-1)))

            async def work(life: Life, saga: Saga[Transfer]) -> None:
                async with saga.on(seen_by(store, life), lease=LEASE):
                    for number in range(count):
                        await saga.start(f"t{number}", Transfer())
                    for number in range(count):
                        await saga.result(f"t{number}")

            tasks = [asyncio.ensure_future(work(life, saga)) for life, saga in sagas]
            await asyncio.wait_for(tasks[-1], 60)
            for life, task in zip(lives, tasks, strict=True):
                life.bury()
                task.cancel()
            await asyncio.wait(tasks)
            async with transfers().on(store) as saga:
                ended = await saga.list()
            done = [one for one in ended if one.status == "done"]
            assert {one.status for one in ended} <= {"done", "undone"}
            assert len(ended) == count
            moved = 30 * len(done)
            want = {"ann": 100 - moved, "bob": 29 * len(done), "house": len(done)}
            assert await balances(accounts) == want

    asyncio.run(main())


# With an event at the end.


@pytest.mark.parametrize("after", [False, True])
async def test_the_event_of_a_saga_leaves_once_whoever_dies(after: bool) -> None:
    async def one(at: int) -> None:
        log = MemoryLog()
        async with open_store("memory://") as store:
            await opened(store)
            life = Life(at, after=after)

            async def work() -> None:
                mine = seen_by(store, life)
                async with Outbox(mine, MortalLog(log, life), lease=LEASE) as box:
                    await run(mine, box)

            async def run(mine: Store, box: Outbox) -> None:
                saga = telling()
                async with saga.on(mine, box, lease=LEASE):
                    await saga.start("t1", Transfer())
                    await saga.result("t1")

            async with process(work(), life) as task:
                dying = asyncio.ensure_future(life.dead.wait())
                await asyncio.wait([task, dying], return_when=asyncio.FIRST_COMPLETED)
                dying.cancel()
                async with Outbox(store, log, lease=LEASE) as box:
                    await run(store, box)

                    async def empty() -> bool:
                        return not (await box.backlog()).waiting

                    await until(empty)
            assert len(await log.read("transferred")) == 1

    await asyncio.gather(*(one(at) for at in range(1, 50)))


def telling() -> Saga[Transfer]:
    """A transfer in one step that tells of itself."""

    async def move(transfer: Transfer, attempt: Attempt) -> None:
        async with attempt.once() as tx:
            if tx.done:
                return
            await add(tx, transfer.source, -transfer.amount)
            await add(tx, transfer.target, transfer.amount)
            await tx.publish("transferred", transfer, key=transfer.source)

    return Saga("telling", Transfer, [Step(move, pause=0.001)])
