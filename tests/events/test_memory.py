"""What a log in memory does in corners that engines differ in."""

from __future__ import annotations

import asyncio

import pytest

from microcosmos.base.clock import ManualClock
from microcosmos.events.interface import BEGINNING, DUPLICATE_WINDOW, Draft, GroupSpec, Schedule
from microcosmos.events.memory import MemoryLog

from .outages import settled

SPEC = GroupSpec("t", "g", BEGINNING, ack_wait=5)


@pytest.mark.parametrize("said", ["nack", "working"])
async def test_who_lost_an_event_says_no_more_of_it(said: str) -> None:
    clock = ManualClock()
    log = MemoryLog(clock)
    await log.publish(Draft("t", b"1"))
    async with log.group(SPEC) as slow, log.group(SPEC) as other:
        (lost,) = await slow.pull(1)
        await clock.advance(6)
        await other.pull(1)
        await clock.advance(4)
        # It is the other's, for as long as it would be.
        await getattr(slow, said)(lost)
        again = asyncio.create_task(slow.pull(1))
        await settled()
        assert not again.done()
        await clock.advance(1)
        (delivery,) = await asyncio.wait_for(again, 60)
        assert delivery.attempt == 3


async def test_what_was_given_before_a_group_began_again_concerns_it_no_more() -> None:
    log = MemoryLog(ManualClock())
    await log.publish(Draft("t", b"1"))
    async with log.group(SPEC) as group:
        (old,) = await group.pull(1)
        await log.reset("t", "g", BEGINNING)
        (new,) = await group.pull(1)
        await group.ack(old)
        await group.nack(old)
        assert (await log.groups())[0].pending == 1
        await group.ack(new)
        assert (await log.groups())[0].pending == 0


async def test_ids_are_forgotten_after_the_window() -> None:
    clock = ManualClock()
    log = MemoryLog(clock)
    await log.publish(Draft("t", b"1", id="one"))
    await clock.advance(DUPLICATE_WINDOW)
    assert (await log.publish(Draft("t", b"2", id="one")))[0].duplicate
    await clock.advance(1)
    assert not (await log.publish(Draft("t", b"3", id="one")))[0].duplicate
    assert [one.payload for one in await log.read("t")] == [b"1", b"3"]


async def test_all_that_is_due_is_published_in_order() -> None:
    clock = ManualClock()
    log = MemoryLog(clock)
    now = clock.time()
    await log.schedule(Schedule("slow", Draft("t", b"slow"), "@every 20s"))
    await log.schedule(Schedule("quick", Draft("t", b"quick"), "@every 10s"))
    await log.schedule(Schedule("cron", Draft("t", b"cron"), "0 * * * *", "Asia/Kathmandu"))
    await clock.advance(45)
    read = await log.read("t")
    assert [(one.payload, one.timestamp - now) for one in read] == [
        (b"quick", 10),
        (b"slow", 20),
        (b"quick", 20),
        (b"quick", 30),
        (b"slow", 40),
        (b"quick", 40),
    ]
    await clock.advance(3600)
    (cron,) = [one for one in await log.read("t", limit=1000) if one.payload == b"cron"]
    # Kathmandu is a quarter of an hour off.
    assert cron.timestamp % 3600 == 900
