"""Tests of services that work messages and events off wait for that, and for nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from microcosmos import Event, Message, Reject, Service
from microcosmos.events import Transaction
from microcosmos.testing import Bench, memory, on_nats


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest) -> Any:
    """Opens a platform of either kind."""
    return memory if request.param == "memory" else on_nats


class Seen:
    """A service that notes what it is given."""

    def __init__(self) -> None:
        self.service = Service("seen")
        self.given: list[Any] = []

    def consume(self, topic: str, **about: Any) -> Seen:
        @self.service.consume(topic, **about)
        async def work(order: dict[str, Any], event: Event) -> None:
            self.given.append((event.topic, order))
            if order.get("reject"):
                raise Reject("no good")
            if order.get("fails", 0):
                raise ValueError("not yet")
            await asyncio.sleep(0)

        return self


async def test_events_are_worked_off_when_it_returns(bench: Any) -> None:
    async with bench() as platform:
        seen = Seen().consume("orders.*")
        await platform.start(seen.service)
        for number in range(50):
            await platform.events.publish("orders.placed", {"n": number}, key=f"{number % 3}")
        await platform.settled()
        assert sorted(order["n"] for _, order in seen.given) == [*range(50)]
        await platform.events.publish("orders.placed", {"reject": True})
        await platform.settled()
        (letter,) = await platform.events.dead("orders.placed")
        assert (letter.reason, letter.group) == ("no good", "seen")


async def test_what_comes_of_events_is_waited_for_too(bench: Any) -> None:
    async with bench() as platform:
        shop, billing = Service("shop"), Service("billing")
        heard = []

        @shop.consume("orders.placed", once=True)
        async def place(order: int, tx: Transaction) -> None:
            tx.set("order", order)
            await tx.publish("orders.accepted", order)

        @billing.consume("orders.accepted")
        async def bill(order: int) -> None:
            await billing.broker.publish("orders.billed", order)

        @billing.subscribe("orders.billed")
        async def note(order: int, message: Message) -> None:
            await asyncio.sleep(0.01)
            heard.append((message.topic, order))

        await platform.start(shop, billing)
        await platform.events.publish("orders.placed", 7)
        await platform.settled()
        assert heard == [("orders.billed", 7)]


async def test_messages_are_handled_when_it_returns(bench: Any) -> None:
    async with bench() as platform:
        mailer = Service("mailer")
        mailed = []

        @mailer.subscribe("users.*", queue="mailer", concurrency=2)
        def mail(user: str) -> None:
            time.sleep(0.001)
            mailed.append(user)

        await platform.start(mailer)
        for number in range(50):
            await platform.broker.publish("users.created", f"{number}")
        await platform.settled()
        assert len(mailed) == 50


async def test_retries_take_no_time_in_memory(platform: Bench) -> None:
    seen = Seen().consume("orders.placed", retry_limit=10)
    await platform.start(seen.service)
    began = time.monotonic()
    await platform.events.publish("orders.placed", {"fails": 1})
    await platform.events.publish("orders.placed", {"n": 2})
    await platform.settled()
    # Ten pauses, each twice as long as the one before, are minutes.
    assert time.monotonic() - began < 60
    assert len(seen.given) == 12
    assert seen.given[-1] == ("orders.placed", {"n": 2})
    (letter,) = await platform.events.dead()
    assert (letter.reason, letter.attempts) == ("ValueError: not yet", 11)
    # 1 s, 2 s, 4 s … 60 s: it did not wait, and yet the time has passed.
    assert 300 < letter.time - time.time() < 400


async def test_time_passes_when_it_is_told_to(platform: Bench) -> None:
    seen = Seen().consume("reports.due", ordered=False)
    await platform.start(seen.service)
    await platform.events.schedule("hourly", "reports.due", {}, every=3600)
    await platform.events.schedule("later", "reports.due", {"later": 1}, delay=60)
    await platform.events.publish("reports.kept", {}, ttl=90)
    await platform.settled()
    assert seen.given == []
    await platform.advance(61)
    await platform.settled()
    assert seen.given == [("reports.due", {"later": 1})]
    assert len(await platform.events.read("reports.kept")) == 1
    await platform.advance(3 * 3600)
    await platform.settled()
    assert len(seen.given) == 4
    assert await platform.events.read("reports.kept") == []
    # A day later everybody is there as before.
    await platform.advance(86400)
    assert "seen" in [one.name for one in await platform.registry.list_services()]


async def test_retries_come_at_their_times_while_time_passes(platform: Bench) -> None:
    service = Service("seen")
    at, first = [], asyncio.Event()

    @service.consume("orders.placed", retry_limit=4)
    async def work(event: Event) -> None:
        at.append(platform.platform.clock.monotonic())
        first.set()
        raise ValueError

    await platform.start(service)
    await platform.events.publish("orders.placed", {})
    await first.wait()
    for _ in range(4):
        await platform.advance(5)
    assert [round(later - at[0]) for later in at[1:]] == [1, 3, 7, 15]


async def test_who_is_never_through_is_named() -> None:
    async with memory() as platform:
        stuck = Service("stuck")
        forever = asyncio.Event()

        @stuck.consume("orders.placed")
        async def wait(event: Event) -> None:
            await forever.wait()

        @stuck.subscribe("users.created")
        async def listen(message: Message) -> None:
            await forever.wait()

        await platform.start(stuck)
        await platform.events.publish("orders.placed", {}, key="1")
        await platform.broker.publish("users.created", {})
        with pytest.raises(TimeoutError) as told:
            await platform.settled(seconds=0.1)
        assert str(told.value) == (
            "not worked off after 0.1 s: stuck.listen: 1 messages; "
            "stuck of orders.placed: 0 events wait, 1 are given out"
        )
        forever.set()
        await platform.settled()


async def test_nothing_to_do_is_settled(bench: Any) -> None:
    async with bench() as platform:
        await platform.settled()
        await platform.start(Service("idle"))
        await platform.settled()


async def test_the_time_of_an_engine_is_its_own() -> None:
    async with on_nats() as platform:
        with pytest.raises(RuntimeError, match="has its own"):
            await platform.advance(1)


async def test_what_others_are_given_is_not_waited_for(platform: Bench) -> None:
    seen = Seen().consume("orders.placed")
    await platform.start(seen.service)

    @asynccontextmanager
    async def looking() -> AsyncIterator[None]:
        loop = platform.events.consume("orders.placed", group="other", offset="beginning")
        task = asyncio.ensure_future(anext(loop))
        yield
        await task
        await loop.aclose()

    async with looking():
        await platform.events.publish("orders.placed", {"n": 1})
        await platform.settled()
    assert len(seen.given) == 1
