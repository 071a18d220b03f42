"""What functions are run by beside requests, on logs in memory and on a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM
from microcosmos.events.interface import Draft, Event, GroupSpec, Log, Schedule
from microcosmos.events.memory import MemoryLog
from microcosmos.functions.host.triggers import Triggers, consumed, schedule_id, topic_of
from microcosmos.functions.interface import Live, Share, Spent
from microcosmos.store import Store, open_store

from ...events.engine import Engine

Open = Callable[[], AbstractAsyncContextManager[Log]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


@pytest.fixture(params=["memory", "engine"])
def opened(request: pytest.FixtureRequest) -> Open:
    if request.param == "engine":
        engine: Engine = request.getfixturevalue("engine")
        return engine.emptied
    return lambda: contextlib.nullcontext(MemoryLog())


class Functions:
    """Functions of the test, which run here."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, str, dict[str, Any]]] = []
        self.failing = 0
        self.hold: asyncio.Event | None = None
        self.moved = asyncio.Event()
        self.told: list[str] = []
        self.refused: set[str] = set()
        self.kept: Store | None = None

    async def event(
        self, namespace: str, name: str, on: str, handler: str, event: dict[str, Any]
    ) -> None:
        self.ran.append((name, on, handler, event))
        self.moved.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.failing:
            self.failing -= 1
            raise errors.InternalServerError("functions.exception", "its log says why")

    async def admit(self, name: str, spec: GroupSpec) -> None:
        if name in self.refused:
            raise errors.Forbidden("topic", f"{name} may not consume {spec.topic}")

    def tell(self, name: str, level: str, text: str) -> None:
        self.told.append(f"{name} {level} {text}")
        self.moved.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.moved.clear()
                await self.moved.wait()

    @contextlib.asynccontextmanager
    async def on(self, log: Log) -> AsyncIterator[Triggers]:
        async with Triggers(
            "micro", log, self, self.admit, tell=self.tell, kept=self.kept
        ) as triggers:
            yield triggers


def live(name: str, *on: str, more: tuple[str, ...] = ()) -> Live:
    shares = [Share(number=2, key="two", engine="quickjs", on=[*on])]
    if more:
        shares.append(Share(number=1, key="one", engine="quickjs", on=[*more]))
    return Live(namespace="micro", name=name, owner="jane", shares=shares)


async def publish(log: Log, topic: str, payload: bytes = b"1", **about: Any) -> None:
    await log.publish(Draft(topic, payload, **about))


async def test_a_topic_is_worked_off(opened: Open) -> None:
    functions = Functions()
    async with opened() as log, functions.on(log) as triggers:
        triggers.follow("shop", live("shop", "events:orders"))
        await triggers.settled()
        about = {"id": "o1", "key": "joe", "metadata": {"A": "b"}, "timestamp": 1e9}
        await publish(log, "orders", b'{"n":1}', **about)
        await functions.until(lambda: functions.ran)
        ((name, on, handler, event),) = functions.ran
        assert (name, on, handler) == ("shop", "events:orders", "consume")
        assert event == {
            "topic": "orders",
            "id": "o1",
            "key": "joe",
            "payload": {"n": 1},
            "attempt": 1,
            "metadata": {"A": "b"},
            "timestamp": "2001-09-09T01:46:40.000Z",
        }


async def test_what_fails_is_tried_again_and_is_told_how_often(opened: Open) -> None:
    functions = Functions()
    functions.failing = 1
    async with opened() as log, functions.on(log) as triggers:
        triggers.follow("shop", live("shop", "events:orders"))
        await triggers.settled()
        await publish(log, "orders")
        await functions.until(lambda: len(functions.ran) == 2)
        assert [event["attempt"] for *_, event in functions.ran] == [1, 2]


async def test_events_wait_for_a_function_that_nobody_runs_just_now(opened: Open) -> None:
    functions = Functions()
    shop = live("shop", "events:orders")
    async with opened() as log:
        async with functions.on(log) as triggers:
            triggers.follow("shop", shop)
            await triggers.settled()
        await publish(log, "orders")
        async with functions.on(log) as triggers:
            triggers.follow("shop", shop)
            await functions.until(lambda: functions.ran)


async def test_two_hosts_share_the_events(opened: Open) -> None:
    one, two = Functions(), Functions()
    one.hold = two.hold = asyncio.Event()
    both = one.moved
    two.moved = both
    shop = live("shop", "events:orders")
    async with opened() as log, one.on(log) as first, two.on(log) as second:
        for triggers in (first, second):
            triggers.follow("shop", shop)
            await triggers.settled()
        for number in range(40):
            await publish(log, "orders", b"%d" % number)
        one.hold.set()
        await one.until(lambda: len(one.ran) + len(two.ran) >= 40)
        got = [event["payload"] for *_, event in (*one.ran, *two.ran)]
        assert sorted(got) == list(range(40))


async def test_a_version_that_wants_something_else(opened: Open) -> None:
    functions = Functions()
    async with opened() as log, functions.on(log) as triggers:
        triggers.follow("shop", live("shop", "events:orders"))
        await triggers.settled()
        triggers.follow("shop", live("shop", "events:refunds", more=("events:orders",)))
        await triggers.settled()
        assert [one.topic for one in await log.groups()] == ["orders", "refunds"]
        triggers.follow("shop", live("shop", "events:refunds"))
        await triggers.settled()
        assert [one.topic for one in await log.groups()] == ["refunds"]
        await publish(log, "orders")
        await publish(log, "refunds")
        await functions.until(lambda: functions.ran)
        assert [on for _, on, *_ in functions.ran] == ["events:refunds"]


def spent(live: Live) -> Live:
    return msgspec.structs.replace(live, spent=Spent(time.time() + 60, "used up"))


@pytest.mark.parametrize("before", [True, False], ids=["which runs", "which is new"])
async def test_events_wait_for_a_function_whose_quota_is_used_up(
    opened: Open, before: bool
) -> None:
    functions = Functions()
    shop = live("shop", "events:orders")
    async with opened() as log, functions.on(log) as triggers:
        if before:
            triggers.follow("shop", shop)
            await triggers.settled()
        triggers.follow("shop", spent(shop))
        triggers.follow("other", live("other", "events:orders"))
        await triggers.settled()
        for number in range(3):
            await publish(log, "orders", b"%d" % number)
        await functions.until(lambda: len(functions.ran) == 3)
        assert {name for name, *_ in functions.ran} == {"other"}
        triggers.follow("shop", shop)
        await functions.until(lambda: len(functions.ran) == 6)
        told = [event for name, _, _, event in functions.ran if name == "shop"]
        assert sorted(event["payload"] for event in told) == [0, 1, 2]
        assert {event["attempt"] for event in told} == {1}


async def test_a_function_that_rests_and_is_deleted_leaves_nothing(opened: Open) -> None:
    functions = Functions()
    async with opened() as log, functions.on(log) as triggers:
        triggers.follow("shop", spent(live("shop", "events:orders", "cron:0 3 * * *")))
        await triggers.settled()
        assert [one.name for one in await log.groups()] == ["shop", "shop"]
        triggers.follow("shop", None)
        await triggers.settled()
        assert await log.groups() == []
        assert await log.schedules() == []


async def test_a_function_that_is_deleted_leaves_nothing(opened: Open) -> None:
    functions = Functions()
    async with opened() as log, functions.on(log) as triggers:
        triggers.follow("shop", live("shop", "events:orders", "cron:0 3 * * *"))
        await triggers.settled()
        assert {one.name for one in await log.groups()} == {"shop"}
        assert len(await log.schedules()) == 1
        triggers.follow("shop", None)
        await triggers.settled()
        assert await log.groups() == []
        assert await log.schedules() == []


async def test_a_tick_runs_a_function_once(engine: Engine) -> None:
    one, two = Functions(), Functions()
    two.moved = one.moved
    shop = live("shop", "cron:@every 1s")
    async with engine.emptied() as log, one.on(log) as first, two.on(log) as second:
        for triggers in (first, second):
            triggers.follow("shop", shop)
            await triggers.settled()
        assert len(await log.schedules()) == 1
        await one.until(lambda: len(one.ran) + len(two.ran) >= 2)
        ran = [*one.ran, *two.ran]
        name, on, handler, event = ran[0]
        assert (name, on, handler) == ("shop", "cron:@every 1s", "scheduled")
        assert event["cron"] == "@every 1s"
        assert abs(event["scheduledTime"] / 1000 - SYSTEM.time()) < 3
        moments = [event["scheduledTime"] for *_, event in ran]
        assert len(set(moments)) == len(moments)


class Noting(MemoryLog):
    """Notes what is scheduled; of one that is scheduled anew the time begins anew."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    async def schedule(self, schedule: Schedule) -> None:
        self.made.append(schedule.id)
        await super().schedule(schedule)


async def test_a_schedule_that_is_there_is_left_alone() -> None:
    functions = Functions()
    log = Noting()
    for _ in range(2):
        async with functions.on(log) as triggers:
            triggers.follow("shop", live("shop", "cron:@every 1h", "cron:0 3 * * *"))
            await triggers.settled()
    ids = [schedule_id("shop", when) for when in ("@every 1h", "0 3 * * *")]
    assert sorted(log.made) == sorted(ids)
    assert sorted(one.id for one in await log.schedules()) == sorted(ids)


async def test_schedules_of_functions_that_went_unseen_are_removed(opened: Open) -> None:
    functions = Functions()
    async with opened() as log:
        async with functions.on(log) as triggers:
            triggers.follow("shop", live("shop", "cron:0 3 * * *", "cron:0 4 * * *"))
            triggers.follow("shop.cart", live("shop.cart", "cron:0 5 * * *"))
            await triggers.settled()
        # Of somebody else, though it is called like ours.
        draft = Draft("elsewhere", b"1")
        await log.schedule(Schedule("functions.shop.mine", draft, "0 6 * * *"))
        now = {"shop": live("shop", "cron:0 4 * * *")}
        async with functions.on(log) as triggers:
            await triggers.tidy(now.get)
        kept = {one.id for one in await log.schedules()}
        assert kept == {schedule_id("shop", "0 4 * * *"), "functions.shop.mine"}


async def test_groups_of_functions_that_went_unseen_are_removed(opened: Open) -> None:
    functions = Functions()
    async with opened() as log, open_store("memory://") as store:
        functions.kept = store.table("groups", database="micro")
        async with functions.on(log) as triggers:
            triggers.follow("shop", live("shop", "events:orders", "events:refunds"))
            triggers.follow("gone", live("gone", "events:orders", "cron:0 5 * * *"))
            await triggers.settled()
        # A service's, which nobody of here has made.
        async with log.group(GroupSpec("orders", "stock")):
            pass
        now = {"shop": live("shop", "events:orders")}
        async with functions.on(log) as triggers:
            triggers.follow("shop", now["shop"])
            await triggers.settled()
            await triggers.tidy(now.get)
        groups = {(one.topic, one.name) for one in await log.groups()}
        assert groups == {("orders", "shop"), ("orders", "stock")}
        assert await functions.kept.list() == ["shop events:orders"]
        assert await log.schedules() == []


async def test_a_function_that_may_not_consume_is_told_in_its_log() -> None:
    functions = Functions()
    functions.refused = {"shop"}
    log = MemoryLog()
    async with functions.on(log) as triggers:
        triggers.follow("shop", live("shop", "events:orders"))
        await functions.until(lambda: functions.told)
        assert functions.told[0].startswith(
            "shop error it cannot be run by events:orders: shop may"
        )
        functions.refused.clear()
        await triggers.settled()
        assert [one.name for one in await log.groups()] == ["shop"]


async def test_a_time_that_is_none_is_told_in_its_log() -> None:
    functions = Functions()
    async with functions.on(MemoryLog()) as triggers:
        triggers.follow("shop", live("shop", "cron:now and then"))
        await functions.until(lambda: functions.told)
        assert "cron" in functions.told[0]


def test_a_payload_that_is_no_json_is_base64() -> None:
    told = consumed(Event("1", "orders", payload=b"\x00\xff"), 1)
    assert (told["payload"], told["encoding"]) == ("AP8=", "base64")


def test_the_topic_of_ticks() -> None:
    assert topic_of("shop.cart") == "functions.shop.cart.cron"
