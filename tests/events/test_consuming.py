"""Functions that work groups off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from microcosmos.base import context, errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.recipient import Recipient
from microcosmos.events.consuming import (
    AHEAD,
    MAX_CONCURRENCY,
    PATIENCE,
    RETRY_EVERY,
    SPARE,
    Backoff,
    Consumer,
    Reject,
)
from microcosmos.events.interface import (
    BEGINNING,
    Draft,
    Event,
    GroupSpec,
    Log,
)
from microcosmos.events.memory import MemoryLog
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.transaction import Transaction
from microcosmos.store import open_store

from .outages import Outages, settled, until


class Order(msgspec.Struct):
    id: str
    price: int = 0


class Bench:
    """A log, and consumers of the topic ``t`` on it.

    Attributes:
        clock: of all.
        memory: the log.
        log: the same, by way of an engine that may be away.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.memory = MemoryLog(self.clock)
        self.log = Outages(self.memory)

    async def publish(self, *payloads: bytes, **about: Any) -> None:
        for payload in payloads:
            await self.memory.publish(Draft("t", payload, **about))

    def consumer(self, function: Callable[..., Any], name: str = "g", **options: Any) -> Consumer:
        ordered = options.pop("ordered", False)
        spec = GroupSpec("t", name, BEGINNING, ordered, options.pop("ack_wait", 30))
        return Consumer(Recipient(function, Event, Transaction), spec, clock=self.clock, **options)

    @asynccontextmanager
    async def at_work(
        self, function: Callable[..., Any], *, on: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[Consumer]:
        consumer = self.consumer(function, **options)
        log: Log = self.log
        async with consumer.on(log, **(on or {})):
            await settled()
            yield consumer

    async def later(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await settled()

    async def far(self) -> tuple[int, int]:
        """Events that were never given out, and those in members' hands."""
        (state,) = await self.memory.groups()
        return state.lag, state.pending


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_function_is_given_events(bench: Bench) -> None:
    seen: list[Any] = []

    async def bill(order: Order, event: Event) -> None:
        here = context.current()
        seen.append((order, event.key, here.metadata["Foo"], here.trace, here.outside))

    async with bench.at_work(bill) as consumer:
        about = {"Foo": "bar", "Micro-Trace": "abc"}
        await bench.publish(b'{"id":"a","price":5}', key="k", metadata=about)
        await settled()
        assert seen == [(Order("a", 5), "k", "bar", "abc", True)]
        assert consumer.counts.processed == 1
        assert await bench.far() == (0, 0)


async def test_without_a_trace_there_is_a_new_one(bench: Bench) -> None:
    traces: list[str] = []

    async def work() -> None:
        traces.append(context.current().trace)

    await bench.publish(b"", b"")
    async with bench.at_work(work):
        assert len(set(traces)) == 2
        assert all(len(trace) == 32 for trace in traces)


async def test_a_function_that_is_not_async_runs_in_a_thread(bench: Bench) -> None:
    seen: list[bytes] = []

    def work(payload: bytes) -> None:
        seen.append(payload)

    await bench.publish(b"1")
    async with bench.at_work(work) as consumer:
        await until(lambda: consumer.counts.processed)
    assert seen == [b"1"]


async def test_what_fails_is_tried_again_later_each_time(bench: Bench) -> None:
    times: list[float] = []
    began = bench.clock.time()

    async def work() -> None:
        times.append(bench.clock.time() - began)
        if len(times) < 5:
            raise ValueError("not yet")

    await bench.publish(b"1")
    async with bench.at_work(work, backoff=Backoff(first=2, longest=10)) as consumer:
        for _ in range(100):
            await bench.later(1)
        assert times == [0, 2, 6, 14, 24]
        assert (consumer.counts.failed, consumer.counts.processed) == (4, 1)
    assert await bench.far() == (0, 0)


async def test_what_goes_on_failing_is_a_dead_letter(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[bytes] = []

    async def work(payload: bytes) -> None:
        attempts.append(payload)
        if payload == b"bad":
            raise ValueError(f"no {len(attempts)}\nsecond line")

    await bench.publish(b"bad", b"good")
    with caplog.at_level(logging.INFO):
        async with bench.at_work(work, retry_limit=3) as consumer:
            for _ in range(30):
                await bench.later(1)
    assert attempts.count(b"bad") == 4
    assert attempts.count(b"good") == 1
    (letter,) = await bench.memory.dead()
    assert (letter.reason, letter.attempts) == ("ValueError: no 5 second line", 4)
    assert (letter.event.payload, letter.group) == (b"bad", "g")
    assert (consumer.counts.failed, consumer.counts.buried) == (4, 1)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert "failed (attempt 1), again in 1 s: ValueError: no 1 second line" in lines[0]
    assert "is a dead letter (attempt 4)" in lines[3]
    assert all("\n" not in line for line in lines)


async def test_a_retry_limit_of_nothing_tries_once(bench: Bench) -> None:
    async def work() -> None:
        raise ValueError

    await bench.publish(b"1")
    async with bench.at_work(work, retry_limit=0) as consumer:
        (letter,) = await bench.memory.dead()
        assert (letter.reason, letter.attempts) == ("ValueError", 1)
        assert consumer.counts.failed == 1


async def test_what_can_never_be_worked_off_is_a_dead_letter_at_once(bench: Bench) -> None:
    async def work(order: Order) -> None:
        if order.id == "rejected":
            raise Reject("it is\nno order")
        if order.id == "wordless":
            raise Reject
        raise errors.BadRequest("x", "of the function itself")

    payloads = [
        b'{"id":"rejected"}',
        b'{"id":"wordless"}',
        b'{"id":5}',
        b"{",
        b"\xff",
        b"[1]",
        b'{"id":"other"}',
    ]
    await bench.publish(*payloads)
    async with bench.at_work(work, concurrency=1) as consumer:
        letters = await bench.memory.dead()
        assert [(one.reason, one.attempts) for one in letters] == [
            ("it is no order", 1),
            ("Reject", 1),
            ("the payload cannot be read: expected `str`, got `int` - at `$.id`", 1),
            ("the payload cannot be read: input data was truncated", 1),
            ("the payload cannot be read: JSON is malformed: invalid character (byte 0)", 1),
            ("the payload cannot be read: expected `object`, got `array`", 1),
        ]
        # What the function refuses by an error of its own may go another time.
        assert consumer.counts.failed == 1


async def test_nothing_that_a_function_does_ends_a_consumer(bench: Bench) -> None:
    async def work(payload: bytes) -> None:
        if payload == b"exit":
            raise SystemExit(3)
        if payload == b"cancel":
            raise asyncio.CancelledError
        if payload == b"stop":
            raise StopAsyncIteration
        if payload == b"recursion":
            await work(payload)

    await bench.publish(b"exit", b"cancel", b"stop", b"recursion", b"fine")
    async with bench.at_work(work, retry_limit=0) as consumer:
        await settled()
        assert consumer.counts.processed == 1
        reasons = [letter.reason.split(":")[0] for letter in await bench.memory.dead()]
        assert reasons == ["SystemExit", "CancelledError", "StopAsyncIteration", "RecursionError"]


async def test_as_many_at_once_as_it_may(bench: Bench) -> None:
    now, most = 0, 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await done.wait()
        now -= 1

    await bench.publish(*[b""] * 10)
    async with bench.at_work(work, concurrency=4) as consumer:
        assert (now, most) == (4, 4)
        # What it cannot begin is left to others.
        assert await bench.far() == (6, 4)
        done.set()
        await settled()
        await settled()
        assert consumer.counts.processed == 10
        assert most == 4


async def test_a_quick_function_has_more_in_hand(bench: Bench) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    await bench.memory.publish(*[Draft("t", b"")] * 1000)
    async with bench.at_work(work, concurrency=1) as consumer:
        await until(lambda: consumer.counts.processed == 1000)
    assert bench.log.limits[0] == 1
    assert 100 < max(bench.log.limits) <= 1 + AHEAD
    assert len(bench.log.limits) < 100


async def test_the_order_of_a_key_is_kept_through_failures(bench: Bench) -> None:
    seen: dict[str, list[bytes]] = {}
    failed: set[tuple[str, bytes]] = set()

    async def work(payload: bytes, event: Event) -> None:
        await asyncio.sleep(0)
        place = event.key, payload
        if place not in failed and payload in (b"1", b"3"):
            failed.add(place)
            raise ValueError
        seen.setdefault(event.key, []).append(payload)

    numbers = [b"%d" % number for number in range(5)]
    for number in numbers:
        for key in "abc":
            await bench.publish(number, key=key)
    async with bench.at_work(work, ordered=True), bench.at_work(work, ordered=True):
        for _ in range(10):
            await bench.later(1)
    assert seen == {"a": numbers, "b": numbers, "c": numbers}


async def test_who_works_for_long_keeps_an_event(bench: Bench) -> None:
    done, runs = asyncio.Event(), 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await done.wait()

    await bench.publish(b"1")
    async with (
        bench.at_work(work, ack_wait=3) as one,
        bench.at_work(work, ack_wait=3) as two,
    ):
        for _ in range(20):
            await bench.later(1)
        assert runs == 1
        done.set()
        await settled()
        assert one.counts.processed + two.counts.processed == 1


async def test_who_died_of_an_event_leaves_it_to_others(bench: Bench) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    await bench.publish(b"1")
    async with bench.memory.group(GroupSpec("t", "g", BEGINNING, ack_wait=1)) as dying:
        await dying.pull(1)
        async with bench.at_work(work):
            await bench.later(1.5)
            assert runs == 1


async def test_who_dies_of_an_event_again_and_again_is_rid_of_it(bench: Bench) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    await bench.publish(b"1")
    async with bench.memory.group(GroupSpec("t", "g", BEGINNING)) as dying:
        for _ in range(1 + 2 + SPARE):
            (delivery,) = await dying.pull(1)
            await dying.nack(delivery)
    async with bench.at_work(work, retry_limit=2) as consumer:
        assert runs == 0
        (letter,) = await bench.memory.dead()
        assert letter.reason == (
            f"it was given out {3 + SPARE} times, and nobody said what came of it"
        )
        assert consumer.counts.buried == 1


async def test_who_stops_ends_what_is_begun_and_gives_back_the_rest(bench: Bench) -> None:
    going, ended = asyncio.Event(), 0

    async def work() -> None:
        nonlocal ended
        await going.wait()
        ended += 1

    await bench.publish(*[b"1"] * 5)
    consumer = bench.consumer(work, concurrency=2)
    stack = consumer.on(bench.log)
    await stack.__aenter__()
    await settled()
    assert await bench.far() == (3, 2)
    leaving = asyncio.create_task(stack.__aexit__(None, None, None))
    await settled()
    assert not leaving.done()
    going.set()
    await leaving
    assert ended == 2
    assert await bench.far() == (3, 0)
    async with bench.memory.group(consumer.spec) as other:
        assert [one.attempt for one in await other.pull(5)] == [1, 1, 1]


async def test_who_stops_begins_nothing_more(bench: Bench) -> None:
    going, runs = asyncio.Event(), 0

    async def work(payload: bytes) -> None:
        nonlocal runs
        runs += 1
        if payload == b"slow":
            await going.wait()

    await bench.memory.publish(*[Draft("t", b"") for _ in range(500)])
    await bench.publish(*[b"slow"] * 20)
    consumer = bench.consumer(work, concurrency=1)
    async with consumer.on(bench.log):
        await until(lambda: runs == 501)
        await settled()
        # It was quick, so it has taken many.
        assert (await bench.far())[1] > 5
        asyncio.get_running_loop().call_soon(going.set)
    assert runs == 501
    assert await bench.far() == (0, 19)
    async with bench.memory.group(consumer.spec) as other:
        found = await other.pull(100)
        assert [one.attempt for one in found] == [2] * 19
        sequences = [one.event.sequence for one in found]
        assert sequences == sorted(sequences)


async def test_what_is_not_ended_in_time_is_given_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    await bench.publish(b"1")
    async with bench.at_work(work, on={"drain": 0.01}) as consumer:
        pass
    assert cancelled
    assert "given back unfinished: 1" in caplog.text
    async with bench.memory.group(consumer.spec) as other:
        assert [one.attempt for one in await other.pull(5)] == [2]


async def test_a_consumer_outlives_the_engine(bench: Bench) -> None:
    seen: list[bytes] = []

    async def work(payload: bytes) -> None:
        seen.append(payload)

    async with bench.at_work(work):
        for outage in (1.0, RETRY_EVERY * PATIENCE * 3):
            bench.log.away = True
            await bench.publish(b"%g" % outage)
            await bench.later(outage)
            await bench.later(1)
            bench.log.away = False
            # What was under way when it went may come once more.
            await bench.later(40)
            assert seen[-1] == b"%g" % outage


async def test_a_consumer_may_begin_while_the_engine_is_away(bench: Bench) -> None:
    seen: list[bytes] = []

    async def work(payload: bytes) -> None:
        seen.append(payload)

    bench.log.away = True
    await bench.publish(b"1")
    async with bench.at_work(work):
        await bench.later(5)
        assert seen == []
        bench.log.away = False
        await bench.later(1)
        assert seen == [b"1"]


async def test_lost_acknowledgements_bring_events_again(bench: Bench) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    bench.log.deaf = True
    await bench.publish(b"1")
    async with bench.at_work(work, ack_wait=3):
        await bench.later(4)
        assert runs == 2
        bench.log.deaf = False
        await bench.later(4)
        assert runs == 3
        await bench.later(30)
        assert runs == 3


async def test_a_group_that_is_deleted_is_made_again(bench: Bench) -> None:
    seen: list[bytes] = []

    async def work(payload: bytes) -> None:
        seen.append(payload)

    async with bench.at_work(work):
        await bench.publish(b"1")
        await settled()
        await bench.memory.delete("t")
        await bench.later(1)
        await bench.publish(b"2")
        await settled()
        assert seen == [b"1", b"2"]


async def test_a_group_that_is_ordered_otherwise_is_refused(bench: Bench) -> None:
    async def work() -> None: ...

    async with bench.memory.group(GroupSpec("t", "g", ordered=True)):
        pass
    with pytest.raises(errors.Conflict, match="ordered"):
        async with bench.at_work(work):
            pass


async def test_what_was_re_driven_for_others_is_passed_over(bench: Bench) -> None:
    runs = {"one": 0, "two": 0}

    async def one() -> None:
        runs["one"] += 1
        if runs["one"] == 1:
            raise Reject("not yet")

    async def two() -> None:
        runs["two"] += 1

    await bench.publish(b"1")
    async with bench.at_work(one, name="one"), bench.at_work(two, name="two"):
        assert await bench.memory.redrive("t") == 1
        await settled()
        assert runs == {"one": 2, "two": 1}
        states = await bench.memory.groups()
        assert [(state.lag, state.pending) for state in states] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    "bad",
    [
        {"concurrency": 0},
        {"concurrency": MAX_CONCURRENCY + 1},
        {"concurrency": "4"},
        {"retry_limit": -1},
        {"retry_limit": 1.5},
        {"backoff": Backoff(first=-1)},
        {"backoff": Backoff(longest=float("inf"))},
        {"ack_wait": 0},
        {"name": "a b"},
    ],
)
def test_what_cannot_be_a_consumer_is_refused(bench: Bench, bad: dict[str, Any]) -> None:
    with pytest.raises(errors.BadRequest):
        bench.consumer(lambda: None, **bad)


def test_how_long_an_event_is_left_alone() -> None:
    backoff = Backoff(first=1, longest=60)
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 6, 7, 10**6)] == [1, 2, 4, 32, 60, 60]


# Contracts.


class Schemas:
    """Contracts that are away, then know one schema."""

    def __init__(self) -> None:
        self.away = True

    async def reading(self, event: Event) -> None:
        if self.away:
            raise errors.Unavailable("events", "the registry is away")
        if event.schema != 1:
            raise errors.BadRequest("events", f"schema {event.schema} is unknown")


async def test_an_event_waits_for_its_schema(bench: Bench) -> None:
    seen: list[bytes] = []
    schemas = Schemas()

    async def work(payload: bytes) -> None:
        seen.append(payload)

    await bench.publish(b"good", schema=1)
    await bench.publish(b"bad", schema=2)
    async with bench.at_work(work, contracts=schemas, ack_wait=3) as consumer:
        for _ in range(60):
            await bench.later(1)
        assert (seen, consumer.counts.failed) == ([], 0)
        schemas.away = False
        await bench.later(1)
        assert seen == [b"good"]
        (letter,) = await bench.memory.dead()
        assert letter.reason == "the payload cannot be read: schema 2 is unknown"
        assert letter.attempts == 1


# Effects that are had once.


async def test_an_effect_is_had_once(bench: Bench) -> None:
    runs = 0

    async def work(order: Order, event: Event, tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        tx.set("sum", (await tx.get("sum") or 0) + order.price)
        tx.set(f"event {event.sequence}", 1)

    async with open_store("memory://") as store:
        bench.log.deaf = True
        on = {"inbox": Inbox(store)}
        await bench.publish(b'{"id":"a","price":5}', b'{"id":"b","price":7}')
        async with bench.at_work(work, on=on, ack_wait=3) as consumer:
            await bench.later(4)
            await bench.later(4)
            bench.log.deaf = False
            await bench.later(4)
            await settled()
            assert await bench.far() == (0, 0)
            assert consumer.counts.repeated >= 2
        assert await store.get("sum") == 12
        assert runs == 2


async def test_effects_of_one_event_at_once_are_one(bench: Bench) -> None:
    """A member is slow, another one has its event already: one of them commits."""
    going = asyncio.Event()

    async def work(tx: Transaction) -> None:
        there = await tx.get("sum") or 0
        await going.wait()
        tx.set("sum", there + 1)

    async with open_store("memory://") as store:
        on = {"inbox": Inbox(store)}
        await bench.publish(b"1")
        async with bench.at_work(work, on=on, ack_wait=3) as slow:
            (state,) = await bench.memory.groups()
            assert state.pending == 1
            # Nobody hears that it is at work.
            bench.log.away = True
            await bench.later(4)
            async with bench.consumer(work).on(bench.memory, **on) as _:
                await settled()
                going.set()
                await until(lambda: slow.counts.processed)
        assert await store.get("sum") == 1


async def test_an_effect_of_a_function_that_fails_is_not_had(bench: Bench) -> None:
    runs = 0

    async def work(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        tx.set("a", runs)
        if runs == 1:
            raise ValueError

    async with open_store("memory://") as store:
        await bench.publish(b"1")
        async with bench.at_work(work, on={"inbox": Inbox(store)}):
            assert await store.get("a") is None
            await bench.later(2)
            assert await store.get("a") == 2


class Away:
    """A store that may be away."""

    def __init__(self, store: Any, state: dict[str, bool]) -> None:
        self._store, self._state, self.scope = store, state, store.scope

    def part(self, name: str) -> Away:
        return Away(self._store.part(name), self._state)

    def __getattr__(self, name: str) -> Any:
        if self._state["away"]:
            raise errors.Unavailable("store", "no replica of store is alive")
        return getattr(self._store, name)


async def test_a_store_that_is_away_is_no_fault_of_an_event(bench: Bench) -> None:
    runs = 0

    async def work(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        tx.set("sum", (await tx.get("sum") or 0) + 1)

    async with open_store("memory://") as store:
        state = {"away": True}
        on = {"inbox": Inbox(Away(store, state))}
        await bench.publish(b"1")
        async with bench.at_work(work, on=on, retry_limit=0, ack_wait=3) as consumer:
            for _ in range(60):
                await bench.later(1)
            assert (runs, consumer.counts.failed) == (0, 0)
            state["away"] = False
            await bench.later(1)
            await until(lambda: consumer.counts.processed)
        assert await store.get("sum") == 1


async def test_what_else_is_away_is_a_failure(bench: Bench) -> None:
    async def work(tx: Transaction) -> None:
        raise errors.Unavailable("users", "no replica of users is alive")

    async with open_store("memory://") as store:
        await bench.publish(b"1")
        on = {"inbox": Inbox(store)}
        async with bench.at_work(work, on=on, retry_limit=0) as consumer:
            await until(lambda: consumer.counts.buried)
            assert (await bench.memory.dead())[0].reason == "no replica of users is alive"


async def test_groups_of_one_name_on_two_topics_have_effects_of_their_own(bench: Bench) -> None:
    async def work(tx: Transaction) -> None:
        tx.set("sum", (await tx.get("sum") or 0) + 1)

    async with open_store("memory://") as store:
        on = {"inbox": Inbox(store)}
        await bench.publish(b"1")
        wide = Consumer(
            Recipient(work, Event, Transaction), GroupSpec(">", "g", BEGINNING), clock=bench.clock
        )
        async with bench.at_work(work, on=on) as narrow, wide.on(bench.log, **on):
            await until(lambda: wide.counts.processed and narrow.counts.processed)
            assert wide.counts.repeated + narrow.counts.repeated == 0
        assert await store.get("sum") == 2
