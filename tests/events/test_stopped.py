"""A process that was stopped for a while leaves alone what others were given meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from microcosmos.base.recipient import Recipient
from microcosmos.events import Transaction
from microcosmos.events.consuming import Consumer
from microcosmos.events.interface import BEGINNING, Draft, Event, GroupSpec
from microcosmos.events.memory import MemoryLog

from .engine import Engine
from .outages import until

ACK_WAIT = 0.6


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.kill()


async def test_what_was_in_its_hands_and_not_begun_is_not_begun() -> None:
    log = MemoryLog()
    begun: list[bytes] = []

    async def work(event: Event) -> None:
        begun.append(event.payload)
        if len(begun) == 1:
            # Nothing goes on in this process: as if it was stopped.
            time.sleep(2 * ACK_WAIT)  # noqa: ASYNC251
            # What it has, begun or not, is given to somebody who does it.
            async with log.group(spec) as other:
                for delivery in await other.pull(2):
                    assert delivery.attempt == 2
                    await other.ack(delivery)

    spec = GroupSpec("t", "g", BEGINNING, ack_wait=ACK_WAIT)
    await log.publish(Draft("t", b"1"), Draft("t", b"2"))
    consumer = Consumer(Recipient(work, Event, Transaction), spec, concurrency=2)
    async with consumer.on(log):
        await until(lambda: len(begun) == 1)
        await log.publish(Draft("t", b"3"))
        await until(lambda: begun[-1] == b"3")
    assert begun == [b"1", b"3"]


@pytest.mark.e2e
async def test_what_waits_for_it_on_the_connection_is_not_taken(engine: Engine) -> None:
    spec = GroupSpec("t", "g", ordered=True, ack_wait=ACK_WAIT)
    given: list[tuple[bytes, int]] = []

    async def other() -> None:
        async with engine.log() as log:
            await log.publish(Draft("t", b"1"))
            async with log.group(spec) as member, asyncio.timeout(60):
                (delivery,) = await member.pull(1)
                given.append((delivery.event.payload, delivery.attempt))
                await member.ack_sync(delivery)
            await log.publish(Draft("t", b"2"))

    async with engine.log() as log, log.group(spec) as member:
        pulling = asyncio.create_task(member.pull(1))
        # Until its question has reached the engine.
        members = 0
        while not members:
            (group,) = await log.groups()
            members = group.members
        thread = threading.Thread(target=lambda: asyncio.run(other()))
        thread.start()
        # This loop stands still.
        thread.join()
        async with asyncio.timeout(60):
            (delivery,) = await pulling
    assert given == [(b"1", 2)]
    assert delivery.event.payload == b"2"
