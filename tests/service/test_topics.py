"""What a service publishes and consumes, on each platform."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from microcosmos import Service, current, errors
from microcosmos.events import Draft, Event, Reject, Transaction
from microcosmos.events.interface import GroupSpec
from microcosmos.events.transactions.relay import WAITING
from microcosmos.service.topics import OwnEvents
from microcosmos.testing import Bench


class Order(msgspec.Struct):
    user: str
    cents: int = 0


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest) -> Bench:
    bench: Bench = request.getfixturevalue(
        "platform" if request.param == "memory" else "nats_platform"
    )
    return bench


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.001)


async def test_a_service_consumes_what_another_one_publishes(
    bench: Bench, microcosmos_runner: object
) -> None:
    shop, billing = Service("shop"), Service("billing")
    billed: list[Any] = []

    @shop.endpoint
    async def place(user: str) -> str:
        receipt = await shop.events.publish("orders.placed", Order(user, 7), key=user)
        return receipt.id

    @shop.endpoint
    async def whoami() -> str:
        return current().trace

    @billing.consume("orders.*")
    async def bill(order: Order, event: Event) -> None:
        trace = await billing.client("shop").whoami()
        billed.append((order, event.id, event.key, trace == event.metadata["Micro-Trace"]))

    await bench.start(shop, billing)
    id = await bench.client("shop").place(user="ann")
    await until(lambda: billed)
    assert billed == [(Order("ann", 7), id, "ann", True)]
    (state,) = await shop.events.groups()
    assert (state.name, state.topic, state.ordered) == ("billing", "orders.*", True)


async def test_what_comes_while_nobody_runs_is_worked_off_later(
    bench: Bench, microcosmos_runner: object
) -> None:
    billing, shop = Service("billing"), Service("shop")
    billed: list[str] = []

    @billing.consume("orders.placed", backoff=0.01)
    async def bill(order: Order) -> None:
        billed.append(order.user)
        if order.user == "bad":
            raise Reject("it is bad")
        if billed.count(order.user) == 1:
            raise ValueError

    await bench.start(shop)
    await shop.events.publish("orders.placed", Order("before"))
    async with billing.on(bench.platform):
        pass
    for user in ("ann", "bad", "joe"):
        await shop.events.publish("orders.placed", Order(user))
    async with billing.on(bench.platform):
        await until(lambda: billed.count("joe") == 2)
        (letter,) = await billing.events.dead()
        assert (letter.event.unmarshal(Order).user, letter.reason) == ("bad", "it is bad")
    assert billed == ["ann", "ann", "bad", "joe", "joe"]


async def test_a_group_is_of_the_name_that_a_service_runs_as(
    bench: Bench, microcosmos_runner: object
) -> None:
    billing = Service("billing")

    @billing.consume("t")
    async def work() -> None: ...

    async with billing.on(bench.platform, name="bills"):
        assert [one.name for one in await billing.events.groups()] == ["bills"]


async def test_replicas_share(bench: Bench, microcosmos_runner: object) -> None:
    seen: list[tuple[int, bytes]] = []

    def replica(number: int) -> Service:
        service = Service("billing")

        @service.consume("t", ordered=False)
        async def work(payload: bytes) -> None:
            seen.append((number, payload))

        return service

    one, two = replica(1), replica(2)
    await bench.start(one, two)
    numbers = [b"%d" % number for number in range(20)]
    await one.events.publish_all([("t", number) for number in numbers])
    await until(lambda: len(seen) >= 20)
    assert sorted(payload for _, payload in seen) == sorted(numbers)


async def test_an_effect_and_what_follows_from_it_are_had_once(
    bench: Bench, microcosmos_runner: object
) -> None:
    bank, told = Service("bank"), []

    @bank.consume("paid", once=True, start="beginning")
    async def credit(cents: int, tx: Transaction) -> None:
        tx.set("sum", (await tx.get("sum") or 0) + cents)
        await tx.publish("credited", cents)

    @bank.consume("credited")
    async def tell(cents: int) -> None:
        told.append(cents)

    await bench.start(bank)
    await bank.events.publish("paid", 5)
    await until(lambda: told == [5])
    await bank.events.reset("paid", "bank", "beginning")
    await bank.events.publish("paid", 7)
    await until(lambda: told == [5, 7])
    assert await bank.store.get("sum") == 12


async def test_a_loop_does_something_once(bench: Bench, microcosmos_runner: object) -> None:
    bank = Service("bank")
    await bench.start(bank)
    await bank.events.publish("paid", 5)
    for done in (False, True):
        paid = bank.events.consume("paid", group="g", offset="beginning", auto_ack=False)
        taken = await anext(paid)
        async with bank.events.once(taken) as tx:
            assert tx.done is done
            tx.set("sum", (await tx.get("sum") or 0) + 5)
        await paid.aclose()
        await bank.events.reset("paid", "g", "beginning")
    assert await bank.store.get("sum") == 5


async def test_what_was_left_in_the_outbox_leaves_when_the_service_begins(
    bench: Bench, microcosmos_runner: object
) -> None:
    bank = Service("bank")
    async with bank.on(bench.platform):
        # As it is left by one that was killed between the commit and the publishing.
        op = await OwnEvents(bench.platform.events, bank.store, None)._outbox.op("t", {"a": 1})
        await bank.store.batch([op])
    async with bank.on(bench.platform):
        events = bank.events.consume("t", offset="beginning")
        assert (await asyncio.wait_for(anext(events), 60)).unmarshal() == {"a": 1}
        await events.aclose()
        async with asyncio.timeout(60):
            while await bank.store.part(WAITING).list():  # noqa: ASYNC110 - of the platform
                await asyncio.sleep(0.01)


async def test_consumers_end_before_the_service(bench: Bench, microcosmos_runner: object) -> None:
    billing, seen = Service("billing"), []

    @billing.endpoint
    async def price() -> int:
        return 5

    @billing.consume("t")
    async def work() -> None:
        await going.wait()
        # What it needs is still there.
        seen.append(await billing.client("billing").price())
        await billing.store.set("a", 1)

    going = asyncio.Event()
    async with billing.on(bench.platform):
        await billing.events.publish("t", {})
        (consumer,) = billing._topics.consumers
        async with asyncio.timeout(60):
            while not (await billing.events.groups())[0].pending:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.01, going.set)
    assert seen == [5]
    assert consumer.counts.processed == 1


async def test_a_group_that_cannot_be_had_keeps_a_service_from_starting(
    bench: Bench, microcosmos_runner: object
) -> None:
    billing = Service("billing")

    @billing.consume("t")
    async def work() -> None: ...

    async with bench.platform.events.group(GroupSpec("t", "billing", ordered=False)):
        with pytest.raises(errors.Conflict, match="not ordered"):
            async with billing.on(bench.platform):
                pass
    assert not bench.platform.table.knows("billing")


async def test_a_service_that_says_what_it_publishes_is_checked_when_it_starts(
    bench: Bench, microcosmos_runner: object
) -> None:
    shop, billing = Service("shop"), Service("billing")
    shop.publishes("orders", Order)

    @billing.consume("orders")
    async def bill(order: Order) -> None: ...

    await bench.start(shop, billing)

    class Other(msgspec.Struct):
        user: str
        cents: str

    other = Service("shop")
    with pytest.raises(errors.BadRequest, match="no topic"):
        other.publishes("orders.*", Other)
    other.publishes("orders", Other)
    with pytest.raises(TypeError, match="orders is said to be of Other and of Order"):
        other.publishes("orders", Order)
    with pytest.raises(errors.Conflict, match="cents"):
        async with other.on(bench.platform):
            pass


async def test_a_type_that_breaks_a_topic_is_refused(
    bench: Bench, microcosmos_runner: object
) -> None:
    shop = Service("shop")
    await bench.start(shop)
    await shop.events.publish("orders", Order("ann", 5))

    class Other(msgspec.Struct):
        user: int

    with pytest.raises(errors.Conflict):
        await shop.events.publish("orders", Other(5))
    with pytest.raises(errors.BadRequest, match="cents"):
        await shop.events.publish("orders", {"user": "ann", "cents": "five"})
    (event,) = await shop.events.read("orders")
    assert event.schema > 0


async def test_an_event_of_an_unknown_schema_is_a_dead_letter(
    bench: Bench, microcosmos_runner: object
) -> None:
    billing, seen = Service("billing"), []

    @billing.consume("orders")
    async def work(order: Order) -> None:
        seen.append(order)

    await bench.start(billing)
    await bench.platform.events.publish(Draft("orders", b'{"user":"x"}', schema=999))
    await billing.events.publish("orders", Order("ann"))
    await until(lambda: seen)
    assert seen == [Order("ann")]
    (letter,) = await billing.events.dead()
    assert "999" in letter.reason


def test_what_is_wrong_fails_where_it_is_written() -> None:
    service = Service("billing")
    with pytest.raises(errors.BadRequest, match="pattern"):
        service.consume("a b")(lambda: None)
    with pytest.raises(errors.BadRequest, match="concurrency"):
        service.consume("t", concurrency=0)(lambda: None)
    with pytest.raises(errors.BadRequest, match="beginning"):
        service.consume("t", start="old")(lambda: None)
    with pytest.raises(TypeError, match="one payload"):
        service.consume("t")(lambda a, b: None)

    def plain() -> None: ...

    def writing(tx: Transaction) -> None: ...

    with pytest.raises(TypeError, match="once=True"):
        service.consume("t", once=True)(plain)
    with pytest.raises(TypeError, match="once=True"):
        service.consume("t")(writing)
    service.consume("t")(plain)
    with pytest.raises(TypeError, match="another group"):
        service.consume("t", group="billing")(plain)
    service.consume("t", group="other")(plain)
    service.consume("u")(plain)


def test_a_service_that_does_not_run_has_no_events() -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        assert Service("billing").events


async def test_after_its_end_a_service_has_no_events(
    bench: Bench, microcosmos_runner: object
) -> None:
    billing = Service("billing")
    with contextlib.suppress(ZeroDivisionError):
        async with billing.on(bench.platform):
            assert billing.events
            raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        assert billing.events
