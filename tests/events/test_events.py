"""Events as authors have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pydantic
import pytest

from microcosmos.base import context, errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.context import Context, Metadata
from microcosmos.events.events import PREFETCH, Events
from microcosmos.events.interface import DUPLICATE_WINDOW, Draft, Event
from microcosmos.events.memory import MemoryLog
from microcosmos.events.taken import Taken
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.store import open_store

from .outages import Outages, settled


class Order(msgspec.Struct):
    id: str
    price: int = 0


class Person(pydantic.BaseModel):
    name: str


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def events(clock: ManualClock) -> Events:
    return Events(MemoryLog(clock), clock=clock)


async def first(iterator: AsyncIterator[Taken], number: int) -> list[Taken]:
    """The first so many of a loop, which asks for no more."""
    found: list[Taken] = []
    async with asyncio.timeout(60), aclosing(iterator):
        async for one in iterator:
            found.append(one)
            if len(found) == number:
                break
    return found


class Loop:
    """A loop beside the test, and what it was given."""

    def __init__(self, iterator: AsyncIterator[Taken]) -> None:
        self.seen: list[Taken] = []
        self._iterator = iterator

    async def __aenter__(self) -> Loop:
        self.task = asyncio.create_task(self._run())
        await settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def _run(self) -> None:
        async for one in self._iterator:
            self.seen.append(one)

    @property
    def payloads(self) -> list[bytes]:
        return [one.payload for one in self.seen]


# Publishing.


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (Order("a", 5), b'{"id":"a","price":5}'),
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        (Person(name="Jo"), b'{"name":"Jo"}'),
        ("text", b'"text"'),
        (None, b"null"),
        (b"\x00raw", b"\x00raw"),
        (bytearray(b"raw"), b"raw"),
        (memoryview(b"raw"), b"raw"),
    ],
)
async def test_values_are_published(events: Events, message: Any, payload: bytes) -> None:
    receipt = await events.publish("t", message)
    (event,) = await events.read("t")
    assert (event.id, event.payload) == (receipt.id, payload)


@pytest.mark.parametrize("bad", [object(), {1: object()}, float, "\ud800"])
async def test_what_json_cannot_carry_is_refused(events: Events, bad: Any) -> None:
    with pytest.raises(errors.BadRequest, match="t: ") as caught:
        await events.publish("t", bad)
    assert "\n" not in str(caught.value)
    assert await events.read("t") == []


async def test_a_time_is_a_datetime_or_seconds(events: Events) -> None:
    moment = datetime(2020, 1, 2, 3, tzinfo=UTC)
    await events.publish("t", {}, timestamp=moment)
    await events.publish("t", {}, timestamp=moment.timestamp())
    await events.publish("t", {}, timestamp=5)
    assert [one.timestamp for one in await events.read("t")] == [1577934000, 1577934000, 5]
    for bad in (datetime(2020, 1, 2), "2020", True, -1, float("nan")):  # noqa: DTZ001
        with pytest.raises(errors.BadRequest):
            await events.publish("t", {}, timestamp=bad)


async def test_key_ttl_and_id(events: Events, clock: ManualClock) -> None:
    await events.publish("t", {}, key="k", id="one", ttl=5)
    assert (await events.publish("t", {}, id="one")).duplicate
    (event,) = await events.read("t")
    assert (event.key, event.id) == ("k", "one")
    await clock.advance(5)
    assert await events.read("t") == []
    await clock.advance(DUPLICATE_WINDOW)
    assert not (await events.publish("t", {}, id="one")).duplicate


async def test_what_travels_goes_along_and_no_credentials(events: Events) -> None:
    metadata = {
        "Foo": "bar",
        "Micro-Trace": "abc",
        "Authorization": "Bearer secret",
        "Micro-Namespace": "foo",
        "Cookie": "secret",
        "Timeout": "5",
    }
    context.set_current(Context(Metadata(metadata)))
    await events.publish("t", {}, metadata={"more": "x", "foo": "baz"})
    (event,) = await events.read("t")
    assert event.metadata == {"Foo": "baz", "Micro-Trace": "abc", "More": "x"}


async def test_an_event_has_a_trace(events: Events) -> None:
    await events.publish("t", {})
    (event,) = await events.read("t")
    assert len(event.metadata["Micro-Trace"]) == 32


async def test_bad_metadata_is_refused(events: Events) -> None:
    for bad in ({"Nats-TTL": "1"}, {"a b": "c"}, {"a": "b\nc"}):
        with pytest.raises(errors.BadRequest):
            await events.publish("t", {}, metadata=bad)


async def test_all_are_published_or_none(events: Events) -> None:
    drafted = await events.draft("a", Order("1"), key="k")
    receipts = await events.publish_all([drafted, ("b", Order("2")), Draft("c", b"raw")])
    assert [one.sequence for one in receipts] == [1, 2, 3]
    with pytest.raises(errors.BadRequest):
        await events.publish_all([("a", {}), ("no topic", {})])
    with pytest.raises(errors.BadRequest):
        await events.publish_all([("a", {}), ("b", object())])
    assert await events.publish_all([]) == []
    assert len(await events.read(">")) == 3


# Consuming.


async def test_a_loop_is_given_what_comes(events: Events) -> None:
    async with Loop(events.consume("chat.1")) as loop:
        await events.publish("chat.1", Order("a", 5), metadata={"Foo": "bar"}, key="k")
        await settled()
        (taken,) = loop.seen
    assert (taken.topic, taken.key, taken.attempt) == ("chat.1", "k", 1)
    assert taken.metadata["Foo"] == "bar"
    assert taken.unmarshal(Order) == Order("a", 5)
    assert (taken.id, taken.timestamp) == (taken.event.id, taken.event.timestamp)
    with pytest.raises(errors.BadRequest):
        taken.unmarshal(int)


async def test_where_a_loop_begins(events: Events, clock: ManualClock) -> None:
    for payload in (b"1", b"2", b"3"):
        await events.publish("t", payload)
        await clock.advance(10)
    two = (await events.read("t"))[1]
    moment = datetime.fromtimestamp(clock.time() - 15, UTC)
    for place, wanted in (
        ({"offset": "beginning"}, [b"1", b"2", b"3"]),
        ({"offset": moment}, [b"3"]),
        ({"offset": clock.time() - 25}, [b"2", b"3"]),
        ({"sequence": two.sequence}, [b"2", b"3"]),
        ({}, []),
        ({"offset": "new"}, []),
    ):
        async with Loop(events.consume("t", **place)) as loop:
            assert loop.payloads == wanted, place


@pytest.mark.parametrize(
    "bad",
    [
        {"offset": "old"},
        {"offset": datetime(2020, 1, 1)},  # noqa: DTZ001
        {"offset": -5},
        {"offset": None},
        {"sequence": -1},
        {"offset": "beginning", "sequence": 1},
        {"group": "a b"},
        {"ack_wait": 0},
    ],
)
async def test_a_bad_loop_is_refused(events: Events, bad: dict[str, Any]) -> None:
    with pytest.raises(errors.BadRequest):
        await anext(events.consume("t", **bad))


async def test_an_event_is_acknowledged_when_the_next_one_is_asked_for(
    events: Events, clock: ManualClock
) -> None:
    await events.publish_all([("t", b"1"), ("t", b"2"), ("t", b"3")])
    found = await first(events.consume("t", group="g", offset="beginning"), 2)
    assert [one.payload for one in found] == [b"1", b"2"]
    # The second one was in the body when the loop was left: it comes again, at once.
    (again,) = await first(events.consume("t", group="g"), 1)
    assert (again.payload, again.attempt) == (b"2", 2)


async def test_a_body_that_raises_gives_its_event_back(events: Events) -> None:
    await events.publish("t", b"1")

    async def loop() -> None:
        async for _ in events.consume("t", group="g", offset="beginning"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop()
    await settled()
    (again,) = await first(events.consume("t", group="g"), 1)
    assert again.attempt == 2


async def test_a_body_says_itself_what_becomes_of_events(
    events: Events, clock: ManualClock
) -> None:
    await events.publish_all([("t", b"%d" % number) for number in range(4)])
    looping = events.consume("t", group="g", offset="beginning", auto_ack=False)
    async with Loop(looping) as loop:
        done, later, bad, kept = loop.seen
        await done.ack()
        await later.nack(5)
        await bad.reject("it is bad")
        await done.nack()  # nothing: it was said already
        await done.reject("never")
        await clock.advance(6)
        await settled()
        assert loop.payloads == [b"0", b"1", b"2", b"3", b"1"]
        assert loop.seen[-1].attempt == 2
        (letter,) = await events.dead()
        assert (letter.event.payload, letter.reason, letter.group) == (b"2", "it is bad", "g")
        await kept.ack(sync=True)
        (state,) = await events.groups()
        assert (state.lag, state.pending) == (0, 1)


async def test_what_a_loop_has_in_its_hands_stays_there(events: Events, clock: ManualClock) -> None:
    await events.publish_all([("t", b"%d" % number) for number in range(3)])
    mine = events.consume("t", group="g", offset="beginning", ack_wait=3)
    taken = await anext(mine)
    async with Loop(events.consume("t", group="g", ack_wait=3)) as other:
        for _ in range(20):
            await clock.advance(1)
        assert taken.payload not in other.payloads
        await mine.aclose()
        await settled()
        assert taken.payload in other.payloads


async def test_a_slow_loop_leaves_events_to_others(events: Events, clock: ManualClock) -> None:
    await events.publish_all([("t", b"%d" % number) for number in range(50)])
    slow = events.consume("t", group="g", offset="beginning")
    await anext(slow)
    async with Loop(events.consume("t", group="g")) as quick:
        assert len(quick.seen) == 49
    await slow.aclose()


async def test_a_quick_loop_takes_many_at_once(events: Events) -> None:
    log = Outages(events.log)
    await events.publish_all([("t", b"")] * 500)
    await first(Events(log).consume("t", offset="beginning"), 500)
    assert log.limits[:3] == [1, 2, 4]
    assert max(log.limits) == PREFETCH


async def test_members_of_a_group_share(events: Events) -> None:
    async with (
        Loop(events.consume("t", group="g")) as one,
        Loop(events.consume("t", group="g")) as two,
        Loop(events.consume("t")) as alone,
    ):
        await events.publish_all([("t", b"%d" % number) for number in range(10)])
        await settled()
        shared = sorted(one.payloads + two.payloads)
        assert shared == sorted(alone.payloads) == [b"%d" % number for number in range(10)]


async def test_a_loop_ends_when_its_group_is_deleted(events: Events) -> None:
    async with Loop(events.consume("t", group="g")) as loop:
        await events.forget("t", "g")
        with pytest.raises(errors.NotFound):
            await loop.task


async def test_events_re_driven_for_others_are_not_seen(events: Events) -> None:
    async with (
        Loop(events.consume("t", group="g", auto_ack=False)) as loop,
        Loop(events.consume("t", group="other")) as other,
        Loop(events.consume("t")) as alone,
    ):
        await events.publish("t", b"1")
        await settled()
        await loop.seen[0].reject("bad")
        assert await events.redrive("t") == 1
        await settled()
        assert (loop.payloads, other.payloads, alone.payloads) == ([b"1"] * 2, [b"1"], [b"1"])
        assert loop.seen[1].id == loop.seen[0].id


async def test_a_loop_outlives_the_engine(clock: ManualClock) -> None:
    log = Outages(MemoryLog(clock))
    events = Events(log, clock=clock)
    async with (
        Loop(events.consume("t", group="g")) as loop,
        Loop(events.consume("t")) as alone,
    ):
        await events.publish("t", b"1")
        await settled()
        log.away = True
        await events.publish("t", b"2")
        await settled()
        assert loop.payloads == alone.payloads == [b"1"]
        await clock.advance(5)
        log.away = False
        await clock.advance(40)
        await events.publish("t", b"3")
        await settled()
        assert loop.payloads == alone.payloads == [b"1", b"2", b"3"]


async def test_who_began_with_what_is_new_misses_nothing_of_an_outage(clock: ManualClock) -> None:
    log = Outages(MemoryLog(clock))
    events = Events(log, clock=clock)
    async with Loop(events.consume("t")) as alone:
        await clock.advance(1)
        log.away = True
        await events.publish("t", b"1")
        await clock.advance(1)
        log.away = False
        await clock.advance(5)
        assert alone.payloads == [b"1"]


# Contracts.


class Strict:
    """Contracts that let nothing in but what begins with a brace."""

    def __init__(self) -> None:
        self.declared: list[Any] = []

    async def writing(self, topic: str, message: Any) -> tuple[bytes, int]:
        if not isinstance(message, dict | bytes):
            raise errors.BadRequest("events", f"{topic}: no dict")
        return message if isinstance(message, bytes) else msgspec.json.encode(message), 7

    async def reading(self, event: Event) -> None:
        if not event.payload.startswith(b"{"):
            raise errors.BadRequest("events", f"{event.topic}: no brace")

    async def declare(self, declaration: Any) -> None:
        self.declared.append(declaration)


async def test_contracts_are_asked(clock: ManualClock) -> None:
    events = Events(MemoryLog(clock), Strict(), clock=clock)
    with pytest.raises(errors.BadRequest, match="no dict"):
        await events.publish("t", 5)
    async with Loop(events.consume("t", group="g")) as loop:
        await events.publish_all([("t", b"bad"), ("t", {"a": 1})])
        await settled()
        assert loop.payloads == [b'{"a":1}']
        assert loop.seen[0].event.schema == 7
        (letter,) = await events.dead()
        assert (letter.reason, letter.event.payload) == ("t: no brace", b"bad")


# Effects.


async def test_an_effect_is_had_once(clock: ManualClock) -> None:
    async with open_store("memory://") as store:
        events = Events(MemoryLog(clock), inbox=Inbox(store), clock=clock)
        await events.publish_all([("t", {"n": number}) for number in range(3)])

        async def work(number: int) -> None:
            looping = events.consume("t", group="g", offset="beginning", auto_ack=False)
            async with asyncio.timeout(60), aclosing(looping):
                async for taken in looping:
                    async with events.once(taken) as tx:
                        if not tx.done:
                            tx.set("sum", (await tx.get("sum") or 0) + 1)
                    number -= 1
                    if not number:
                        return

        await work(3)
        assert await store.get("sum") == 3
        assert (await events.groups())[0].pending == 0
        await events.reset("t", "g", "beginning")
        await work(3)
        assert await store.get("sum") == 3


async def test_an_effect_that_failed_is_had_later(clock: ManualClock) -> None:
    async with open_store("memory://") as store:
        events = Events(MemoryLog(clock), inbox=Inbox(store), clock=clock)
        await events.publish("t", {})
        (taken,) = await first(events.consume("t", group="g", offset="beginning"), 1)

        async def fail() -> None:
            async with events.once(taken) as tx:
                tx.set("a", 1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await store.get("a") is None
        (again,) = await first(events.consume("t", group="g"), 1)
        async with events.once(again) as tx:
            assert not tx.done
            tx.set("a", 2)
        assert await store.get("a") == 2


async def test_without_a_store_nothing_is_done_once(events: Events) -> None:
    await events.publish("t", {})
    (taken,) = await first(events.consume("t", group="g", offset="beginning"), 1)
    with pytest.raises(RuntimeError, match="store"):
        async with events.once(taken):
            pass


# Schedules and topics.


async def test_schedules(events: Events, clock: ManualClock) -> None:
    now = clock.time()
    made = await events.schedule("a", "t", Order("a"), delay=60, key="k", metadata={"Foo": "x"})
    assert made.when == "@at 2023-11-14T22:14:20Z"
    await events.schedule("b", "t", {}, at=datetime.fromtimestamp(now, UTC) + timedelta(hours=1))
    await events.schedule("c", "t", {}, every=1800)
    await events.schedule("d", "t", {}, cron="0 3 * * *", zone="Europe/Berlin")
    found = await events.schedules()
    assert [one.id for one in found] == ["a", "b", "c", "d"]
    await clock.advance(61)
    (event,) = await events.read("t")
    assert (event.key, event.metadata, event.unmarshal(Order)) == ("k", {"Foo": "x"}, Order("a"))
    await events.unschedule("c")
    await clock.advance(24 * 3600)
    # At three in Berlin it is two in UTC.
    times = [
        datetime.fromtimestamp(one.timestamp, UTC).strftime("%H:%M")
        for one in await events.read("t")
    ]
    assert times == ["22:14", "23:13", "02:00"]
    for bad in ({}, {"delay": 1, "every": 1}, {"cron": "x"}, {"every": 0}, {"delay": -1}):
        with pytest.raises(errors.BadRequest):
            await events.schedule("e", "t", {}, **bad)


async def test_topics(events: Events) -> None:
    await events.create("t", ttl=100)
    await events.publish_all([("t", b"1"), ("t", b"2"), ("u", b"3")])
    assert [one.topic for one in await events.topics()] == ["t", "u"]
    assert (await events.inspect("t")).events == 2
    assert [one.payload for one in await events.read("t", 1, 1)] == [b"2"]
    assert await events.purge("t", keep=1) == 1
    assert await events.delete("t") == 1
