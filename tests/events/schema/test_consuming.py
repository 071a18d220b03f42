"""Poison is a dead letter with its reason, and the consumer goes on."""

from __future__ import annotations

from typing import Any

import msgspec

from microcosmos.base.recipient import Recipient
from microcosmos.events.consuming import Consumer
from microcosmos.events.events import Events
from microcosmos.events.interface import BEGINNING, Draft, Event, GroupSpec
from microcosmos.events.memory import MemoryLog
from microcosmos.events.schema.local import LocalContracts
from microcosmos.events.transactions.transaction import Transaction

from ..outages import until
from .conftest import registered


class Order(msgspec.Struct):
    id: int


async def test_poison_is_a_dead_letter_and_the_consumer_goes_on() -> None:
    seen: list[int] = []

    async def bill(order: Order) -> None:
        seen.append(order.id)

    log = MemoryLog()
    async with registered() as registry, LocalContracts(registry, "micro") as contracts:
        events = Events(log, contracts)
        await events.publish("orders", Order(1))
        schema = (await log.read("orders"))[0].schema
        assert schema == 1
        await log.publish(
            Draft("orders", b'{"id":"x"}', id="misfit", schema=schema),
            Draft("orders", b'{"id":2}', id="unknown", schema=99),
            Draft("orders", b"\xff", id="torn", schema=schema),
            Draft("orders", b'{"id":null}', id="plain"),
        )
        await events.publish("orders", {"id": 3})
        recipient = Recipient(bill, Event, Transaction)
        consumer = Consumer(recipient, GroupSpec("orders", "g", BEGINNING), contracts=contracts)
        async with consumer.on(log):
            await until(lambda: seen == [1, 3] and consumer.counts.buried == 4)
        letters = {one.event.id: one.reason for one in await log.dead("orders")}
        assert letters.keys() == {"misfit", "unknown", "torn", "plain"}
        assert letters["misfit"].endswith(
            'orders: the payload does not fit schema 1: $.id: the value is not of type "integer"'
        )
        assert letters["unknown"].endswith("orders: the event's schema, 99, is unknown")
        assert "no JSON" in letters["torn"]
        assert "$.id" in letters["plain"]


async def test_so_it_is_for_a_loop() -> None:
    log = MemoryLog()
    async with registered() as registry, LocalContracts(registry, "micro") as contracts:
        events = Events(log, contracts)
        await events.publish("orders", Order(1))
        await log.publish(Draft("orders", b'{"id":"x"}', schema=1))
        await events.publish("orders", Order(2))
        seen: list[Any] = []
        async for event in events.consume("orders", group="g", offset="beginning"):
            seen.append(event.unmarshal(Order).id)
            if len(seen) == 2:
                break
        assert seen == [1, 2]
        (letter,) = await log.dead("orders")
        assert "$.id" in letter.reason
