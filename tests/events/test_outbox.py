"""The outbox: an event leaves if, and only if, its transaction commits; in that order; once."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.context import carrying
from microcosmos.events.events import Events
from microcosmos.events.interface import Draft, Event, Receipt
from microcosmos.events.memory import MemoryLog
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.outbox import MAX_PAYLOAD, Outbox
from microcosmos.events.transactions.relay import Names
from microcosmos.events.transactions.transaction import Overtaken, Transaction
from microcosmos.store import Store, open_store

from .mortal import Life, MortalLog, process, seen_by, until

LEASE = 0.1


def outbox(store: Store, log: Any, **more: Any) -> Outbox:
    return Outbox(store, log, lease=LEASE, **more)


async def place(box: Outbox, key: str, number: int) -> None:
    """Commit the next number of a key, and an event that tells of it."""

    async def work(tx: Transaction) -> None:
        tx.set(f"{key}{number}", number)
        await tx.publish("placed", number, key=key)

    await box.transact(work)


async def empty(box: Outbox) -> bool:
    return (await box.backlog()).waiting == 0


async def numbers(log: MemoryLog) -> dict[str, list[int]]:
    """The numbers in the log, by key, in their order."""
    found = defaultdict(list)
    for event in await log.read("placed", limit=1000):
        found[event.key].append(event.unmarshal(int))
    return found


async def test_an_event_leaves_with_its_transaction() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store, outbox(store, log) as box:
        with carrying({"Micro-Trace": "a" * 32, "Foo": "bar"}):
            async with box.transaction() as tx:
                tx.set("order", 1)
                id = await tx.publish(
                    "placed", {"order": 1}, key="u1", metadata={"baz": "x"}, timestamp=1_700_000_000
                )
                assert await log.topics() == []
        await until(lambda: empty(box))
        (event,) = await log.read("placed")
        assert event == Event(
            id,
            "placed",
            {"Micro-Trace": "a" * 32, "Foo": "bar", "Baz": "x"},
            1_700_000_000,
            b'{"order":1}',
            "u1",
            1,
        )
        assert await store.get("order") == 1


async def test_nothing_leaves_without_a_commit() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store, outbox(store, log) as box:

        async def fail() -> None:
            async with box.transaction() as tx:
                await tx.publish("placed", 1)
                raise ValueError("no")

        async def lose() -> None:
            async with box.transaction() as tx:
                await tx.get("a")
                await store.set("a", 1)
                await tx.publish("placed", 2)

        with pytest.raises(ValueError, match="no"):
            await fail()
        with pytest.raises(Overtaken):
            await lose()
        async with box.transaction() as tx:
            await tx.publish("placed", 3)
        await until(lambda: empty(box))
        assert await numbers(log) == {"": [3]}


async def test_its_time_is_that_of_the_commit_not_of_the_relay() -> None:
    clock = ManualClock()
    log = MemoryLog(clock)
    async with open_store("memory://") as store:
        box = outbox(store, log, clock=clock)
        async with box.transaction() as tx:
            await tx.publish("placed", 1)
        committed = clock.time()
        await clock.advance(60)
        assert (await box.backlog()).oldest == pytest.approx(60, abs=0.001)
        async with box:
            await until(lambda: empty(box))
        assert (await log.read("placed"))[0].timestamp == committed


async def test_an_op_goes_with_any_batch_of_ones_own() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store, outbox(store, log) as box:
        await store.table("orders").batch([await box.op("placed", 7, key="k", id="mine")])
        await until(lambda: empty(box))
        (event,) = await log.read("placed")
        assert (event.id, event.key, event.payload) == ("mine", "k", b"7")


@pytest.mark.parametrize(
    ("topic", "message", "more", "kind"),
    [
        ("a b", 1, {}, errors.BadRequest),
        ("t", object(), {}, errors.BadRequest),
        ("t", 1, {"key": "a b"}, errors.BadRequest),
        ("t", 1, {"metadata": {"Nats-Msg-Id": "x"}}, errors.BadRequest),
        ("t", 1, {"id": "seq:1"}, errors.BadRequest),
        ("t", b"x" * (MAX_PAYLOAD + 1), {}, errors.TooLarge),
    ],
)
async def test_what_can_be_no_event_is_refused_before_the_commit(
    topic: str, message: Any, more: dict[str, Any], kind: type[errors.Error]
) -> None:
    async with open_store("memory://") as store:
        box = outbox(store, MemoryLog())
        async with box.transaction() as tx:
            with pytest.raises(kind):
                await tx.publish(topic, message, **more)
        assert (await box.backlog()).waiting == 0


async def test_what_waited_while_nobody_relayed_comes_in_the_order_of_the_commits() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store:
        # Whose clocks go wrong: the names of records are in no order at all.
        clocks = [ManualClock(2e9), ManualClock(1e9), ManualClock(1.5e9)]
        boxes = [outbox(store, log, clock=clock) for clock in clocks]
        for number, box in zip(range(250), cycle(boxes), strict=False):
            await place(box, "k", number)
        async with boxes[0]:
            await until(lambda: empty(boxes[0]))
        assert (await numbers(log))["k"] == list(range(250))


async def test_events_of_one_commit_come_in_the_order_in_which_they_were_published() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store, outbox(store, log) as box:
        async with box.transaction() as tx:
            for number in range(50):
                await tx.publish("placed", number)
        await until(lambda: empty(box))
        assert (await numbers(log))[""] == list(range(50))


class Refusing(MemoryLog):
    """A log that is away for so many calls, and refuses a payload."""

    def __init__(self, away: int = 0, poison: bytes = b"") -> None:
        super().__init__()
        self.away = away
        self.poison = poison
        self.calls: list[int] = []

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        self.calls.append(len(drafts))
        if self.away:
            self.away -= 1
            raise errors.Unavailable("events", "the engine is away")
        if self.poison and any(one.payload == self.poison for one in drafts):
            raise errors.BadRequest("events", "it tastes bad")
        return await super().publish(*drafts)


async def test_it_goes_on_when_the_engine_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    log = Refusing(away=3)
    async with open_store("memory://") as store, outbox(store, log) as box:
        for number in range(5):
            await place(box, "k", number)
        await until(lambda: empty(box))
        assert (await numbers(log))["k"] == list(range(5))
    assert caplog.text.count("the engine is away") == 1


async def test_what_is_refused_is_parked_and_keeps_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Refusing(poison=b"2")
    async with open_store("memory://") as store, outbox(store, log) as box:
        for number in range(5):
            await place(box, "k", number)
        await until(lambda: empty(box))
        assert (await numbers(log))["k"] == [0, 1, 3, 4]
        (parked,) = await box.parked()
        assert (parked.draft.payload, parked.reason) == (b"2", "it tastes bad")
        assert (await box.backlog()).parked == 1
        assert "refused, and parked: it tastes bad" in caplog.text
        log.poison = b""
        await box.retry(parked.name)
        await until(lambda: empty(box))
        assert (await numbers(log))["k"] == [0, 1, 3, 4, 2]
        assert await box.parked() == []
        with pytest.raises(errors.NotFound):
            await box.retry(parked.name)


async def test_what_is_ready_is_published_together() -> None:
    log = Refusing()
    async with open_store("memory://") as store:
        box = outbox(store, log)
        await asyncio.gather(*(place(box, "k", number) for number in range(300)))
        async with box:
            await until(lambda: empty(box))
        # What the relay before may have had in hand goes one by one.
        assert log.calls == [1] * 100 + [100, 100]


# Several replicas.


@asynccontextmanager
async def replicas(store: Store, logs: Sequence[Any]) -> AsyncIterator[list[Outbox]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(outbox(store, log)) for log in logs]


async def test_of_several_relays_one_publishes_and_nothing_comes_twice() -> None:
    log = MemoryLog()
    logs = [MortalLog(log, Life()) for _ in range(3)]
    async with open_store("memory://") as store, replicas(store, logs) as boxes:

        async def write(box: Outbox, key: str) -> None:
            for number in range(20):
                await place(box, key, number)

        await asyncio.gather(*(write(box, f"k{at}") for at, box in enumerate(boxes)))
        await until(lambda: empty(boxes[0]))
        assert await numbers(log) == {f"k{at}": list(range(20)) for at in range(3)}
        told = [len(one.published) for one in logs]
        assert sorted(told) == [0, 0, 60]


async def test_when_the_relay_leaves_another_one_goes_on_at_once() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store:
        first, second = Outbox(store, log, lease=60), Outbox(store, log, lease=60)
        async with second:
            async with first:
                await place(first, "k", 0)
                await until(lambda: empty(first))
            await place(first, "k", 1)
            await until(lambda: empty(first), seconds=30)


async def test_a_relay_that_was_thought_dead_does_nothing_twice() -> None:
    log = MemoryLog()
    life = Life()
    stuck = MortalLog(log, life)
    async with open_store("memory://") as store:
        first, second = outbox(seen_by(store, life), stuck), outbox(store, log)
        async with first:
            await place(second, "k", 0)
            await until(lambda: empty(second))
            life.dead.set()
            await place(second, "k", 1)
            async with second:
                await until(lambda: empty(second))
                life.dead.clear()
                await place(second, "k", 2)
                await until(lambda: empty(second))
                life.bury()
        assert (await numbers(log))["k"] == [0, 1, 2]


# Deaths.


async def _dies(
    until_: int, after: bool, url: str = "memory://", waiting: int = 0
) -> tuple[bool, int]:
    """A replica commits and relays, dies at an operation, and another goes on.

    Args:
        until_: the operation; 0 is none.
        after: whether it is done.
        url: of the store.
        waiting: events that wait when it begins.

    Returns:
        Whether the first one came to its end, and how many it had committed.
    """
    log = MemoryLog()
    async with open_store(url) as store:
        life = Life(until_, after=after)
        mine = outbox(seen_by(store, life), MortalLog(log, life))
        for number in range(waiting):
            await place(outbox(store, log), f"k{number % 2}", number)

        async def work() -> None:
            async with mine:
                for number in range(waiting, waiting + 6):
                    await place(mine, f"k{number % 2}", number)
                await until(lambda: empty(mine))

        async with process(work(), life) as task:
            dying = asyncio.ensure_future(life.dead.wait())
            await asyncio.wait([task, dying], return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            lived = task.done()
            async with outbox(store, log) as other:
                await until(lambda: empty(other))
        committed = sorted(await store.list("k"))
        found = await numbers(log)
        assert sorted(f"{key}{n}" for key, all_ in found.items() for n in all_) == committed
        for all_ in found.values():
            assert all_ == sorted(all_)
        return lived, len(committed)


@pytest.mark.parametrize("after", [False, True])
async def test_a_death_anywhere_loses_and_doubles_nothing(after: bool) -> None:
    results = await asyncio.gather(*(_dies(until_, after) for until_ in range(80)))
    lived = [lived for lived, _ in results]
    # It died at every place that there is, and at some of them before all was committed.
    assert results[0] == (True, 6)
    assert sum(not one for one in lived) > 25
    assert {count for _, count in results} >= set(range(1, 7))


@pytest.mark.parametrize("after", [False, True])
async def test_a_death_in_a_batch_loses_and_doubles_nothing(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microcosmos.events.transactions.relay.BATCH", 3)
    runs = (_dies(until_, after, waiting=12) for until_ in range(1, 60))
    results = await asyncio.gather(*runs)
    assert sum(not lived for lived, _ in results) > 25


async def test_a_death_anywhere_loses_and_doubles_nothing_in_a_file(tmp_path: Path) -> None:
    places = itertools.product(range(1, 60, 4), (False, True))
    urls = ((at, after, f"sqlite://{tmp_path / f'{at}{after}.db'}") for at, after in places)
    results = await asyncio.gather(*(_dies(*one) for one in urls))
    assert False in {lived for lived, _ in results}


async def test_a_commit_whose_event_is_published_anew_after_the_window_has_one_effect() -> None:
    """The relay died between publishing and removing, and nobody came for hours."""
    clock = ManualClock()
    log = MemoryLog(clock)
    async with open_store("memory://") as store:
        life = Life()
        first = outbox(seen_by(store, life), MortalLog(log, life))
        async with first:
            await place(outbox(store, log), "k", 1)
            await until(lambda: _has(log))
        entry = await outbox(store, log).op("placed", 1, key="k", id=(await _only(log)).id)
        await clock.advance(3600)
        await store.batch([entry])
        async with outbox(store, log) as second:
            await until(lambda: empty(second))
        events = await log.read("placed")
        assert len(events) == 2
        inbox = Inbox(store)
        for event in events:
            async with inbox.once("counting", event.id) as tx:
                tx.set("count", (await tx.get("count", int) or 0) + 1)
        assert await store.get("count") == 1


async def _has(log: MemoryLog) -> bool:
    return bool(await log.read("placed"))


async def _only(log: MemoryLog) -> Event:
    (event,) = await log.read("placed")
    return event


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_whatever_interleaves_keys_stay_in_order(
    turns: list[int], writes: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        log = MemoryLog()
        async with open_store("memory://") as store:
            lives = [Life(turns=cycle(turns[at:] + turns[:at])) for at in range(3)]
            boxes = [outbox(seen_by(store, life), MortalLog(log, life)) for life in lives]
            counts: dict[int, int] = defaultdict(int)

            async def write(box: Outbox, key: int) -> None:
                async def work(tx: Transaction) -> None:
                    last = await tx.get(f"last{key}", int) or 0
                    tx.set(f"last{key}", last + 1)
                    await tx.publish("placed", last + 1, key=f"k{key}")

                await box.transact(work)

            async with AsyncExitStack() as stack:
                for box in boxes:
                    await stack.enter_async_context(box)
                await asyncio.gather(*(write(boxes[at], key) for at, key in writes))
                await until(lambda: empty(boxes[0]))
            for _, key in writes:
                counts[key] += 1
            want = {f"k{key}": list(range(1, count + 1)) for key, count in counts.items()}
            assert await numbers(log) == want

    asyncio.run(main())


# Reading, writing and publishing as one.


async def test_an_event_consumed_its_effect_and_the_event_that_follows_are_one() -> None:
    log = MemoryLog()
    async with open_store("memory://") as store, outbox(store, log) as box:
        inbox = Inbox(store, box)

        async def bill(event_id: str) -> None:
            async with inbox.once("billing", event_id) as tx:
                if tx.done:
                    return
                number = (await tx.get("bills", int) or 0) + 1
                tx.set("bills", number)
                await tx.publish("billed", number)

        for id in ("e1", "e1", "e2", "e1"):
            await bill(id)
        await until(lambda: empty(box))
        assert [one.unmarshal(int) for one in await log.read("billed")] == [1, 2]


async def test_contracts_are_asked_before_the_commit() -> None:
    class Contracts:
        async def writing(self, topic: str, message: Any) -> tuple[bytes, int]:
            if message == "bad":
                raise errors.BadRequest("events", "it breaks the contract")
            return b'"good"', 7

    log = MemoryLog()
    events = Events(log, Contracts())  # type: ignore[arg-type]
    async with open_store("memory://") as store, outbox(store, log, make=events.draft) as box:
        async with box.transaction() as tx:
            with pytest.raises(errors.BadRequest, match="contract"):
                await tx.publish("t", "bad")
            await tx.publish("t", "good")
        await until(lambda: empty(box))
        (event,) = await log.read("t")
        assert (event.payload, event.schema) == (b'"good"', 7)


def test_names_are_in_order_though_the_clock_goes_back() -> None:
    class Back:
        def __init__(self) -> None:
            self.now = 1e9

        def time(self) -> float:
            self.now -= 1
            return self.now

    names = Names(Back())  # type: ignore[arg-type]
    made = [names.next() for _ in range(100)]
    assert made == sorted(set(made))
