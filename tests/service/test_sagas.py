"""Sagas, outbox and inbox of services, on a platform."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from microcosmos import Client, Service, current, errors
from microcosmos.events.interface import Event
from microcosmos.events.saga import Attempt, Refused, Step
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.events.transactions.transaction import Transaction
from microcosmos.testing.platform import Bench


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - of another service
            await asyncio.sleep(0.005)


def wallets() -> Service:
    """Another service, which does what a key names once, and takes it back once."""
    service = Service("wallets")

    @service.endpoint
    async def take(key: str, user: str, cents: int) -> int:
        async with service.events.inbox.once("take", key, keep=0) as tx:
            left = await tx.get(user, int) or 0
            if not tx.done:
                if left < cents:
                    raise errors.Conflict("wallets.Take", f"{user} has only {left}")
                tx.set(user, left - cents)
        return left

    @service.endpoint
    async def give_back(key: str, user: str, cents: int) -> None:
        async with service.events.inbox.undo("take", key, keep=0) as tx:
            if not tx.done:
                tx.set(user, (await tx.get(user, int) or 0) + cents)

    return service


def trips(fails: bool = False) -> tuple[Service, Any]:
    service = Service("trips")
    wallet = service.client("wallets")

    async def pay(user: str, attempt: Attempt) -> None:
        await wallet.take(key=attempt.key, user=user, cents=30)

    async def repay(user: str, attempt: Attempt) -> None:
        # As any program calls others.
        await Client("wallets").give_back(key=attempt.key, user=user, cents=30)

    async def book(user: str, attempt: Attempt) -> None:
        if fails:
            raise Refused("full")
        async with attempt.once() as tx:
            tx.set(user, "booked")
            await tx.publish("booked", user)

    steps = [Step(pay, undo=repay, pause=0.01, retry_limit=1), Step(book)]
    return service, service.saga("trip", str, steps)


async def test_a_saga_over_two_services_is_done(platform: Bench) -> None:
    wallet, (service, trip) = wallets(), trips()
    await platform.start(wallet, service)
    await wallet.store.set("ann", 100)
    await trip.start("t1", "ann")
    assert (await trip.result("t1")).status == "done"
    assert await wallet.store.get("ann") == 70
    assert await service.store.get("ann") == "booked"

    async def told() -> bool:
        return len(await service.events.log.read("booked")) == 1

    await until(told)


async def test_a_saga_over_two_services_is_undone(platform: Bench) -> None:
    wallet, (service, trip) = wallets(), trips(fails=True)
    await platform.start(wallet, service)
    await wallet.store.set("ann", 100)
    await trip.start("t1", "ann")
    assert (await trip.result("t1")).error == "book: full"
    assert await wallet.store.get("ann") == 100
    await trip.start("t2", "poor")
    assert (await trip.result("t2")).error == "pay: poor has only 0"
    assert await wallet.store.get("poor", int) is None


async def test_a_saga_goes_on_when_its_service_is_there_again(platform: Bench) -> None:
    wallet, (service, trip) = wallets(), trips()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.on(platform.platform))
        # The wallets are not there yet: that is no reason to give up at once.
        await trip.start("t1", "ann")

        async def tried() -> bool:
            return bool((await trip.get("t1")).steps)

        await until(tried)
    with pytest.raises(RuntimeError, match="not on a store"):
        await trip.get("t1")
    await platform.start(wallet)
    await wallet.store.set("ann", 100)
    await platform.start(service)
    ended = await trip.result("t1")
    assert (ended.status, await wallet.store.get("ann")) in [("done", 70), ("undone", 100)]


async def test_steps_make_calls_of_their_own(platform: Bench) -> None:
    service, seen = Service("s"), []

    async def act(_: int) -> None:
        here = current()
        seen.append((here.outside, here.account, here.trace, "Authorization" in here.metadata))

    saga = service.saga("s", int, [Step(act)])

    @service.endpoint
    async def go() -> str:
        await saga.start("1", 1)
        await saga.result("1")
        return current().trace

    await platform.start(service)
    trace = await platform.client("s").go()
    assert seen == [(True, None, trace, False)]


def test_a_saga_is_declared_once() -> None:
    service, _ = trips()
    with pytest.raises(TypeError, match="has a saga trip already"):
        service.saga("trip", str, [])
    with pytest.raises(TypeError, match="0 steps"):
        service.saga("other", str, [])


async def test_events_that_a_replica_left_behind_leave_by_another(
    platform: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica commits an event and is killed; the other one has never published any."""
    monkeypatch.setattr("microcosmos.service.topics.LEASE", 0.02)
    one, told = Service("shop"), []

    @one.consume("placed", start="beginning")
    async def note(number: int, event: Event) -> None:
        told.append(number)

    await platform.start(one)
    left_behind = await Outbox(one.store, one.events.log).op("placed", 7)
    await one.store.batch([left_behind])

    async def published() -> bool:
        return told == [7]

    await until(published)


async def test_consumed_written_and_published_is_one(platform: Bench) -> None:
    service, tries = Service("shop"), []

    @service.consume("placed", once=True, backoff=0.01)
    async def bill(number: int, tx: Transaction) -> None:
        tries.append(number)
        tx.set("bills", (await tx.get("bills", int) or 0) + number)
        await tx.publish("billed", number)
        if len(tries) == 1:
            raise ValueError("not yet")

    await platform.start(service)
    await service.events.publish("placed", 5)

    async def billed() -> bool:
        return len(await service.events.log.read("billed")) == 1

    await until(billed)
    assert tries == [5, 5]
    assert await service.store.get("bills") == 5
