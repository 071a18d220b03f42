"""The outbox on the real engine: relays that die, and an engine that is killed under load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from microcosmos.base.recipient import Recipient
from microcosmos.events.consuming import Consumer
from microcosmos.events.interface import BEGINNING, Event, GroupSpec, Log
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.events.transactions.transaction import Transaction
from microcosmos.store import Store, open_store

from .engine import Engine
from .mortal import Life, MortalLog, process, seen_by, until

pytestmark = [pytest.mark.e2e]

LEASE = 0.2
KEYS = ("a", "b", "c")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


async def write(box: Outbox, key: str, count: int) -> None:
    """Commit the numbers of a key from 1 on, each with its event."""

    async def work(tx: Transaction) -> None:
        await asyncio.sleep(0.002)
        number = (await tx.get(key, int) or 0) + 1
        tx.set(key, number)
        await tx.publish("placed", number, key=key)

    for _ in range(count):
        await box.transact(work)


async def numbers(log: Log) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    after = 0
    while page := await log.read("placed", limit=1000, after=after):
        for event in page:
            found.setdefault(event.key, []).append(event.unmarshal(int))
        after = page[-1].sequence
    return found


async def emptied(box: Outbox) -> None:
    async def empty() -> bool:
        return not (await box.backlog()).waiting

    await until(empty, seconds=30)


async def test_several_replicas_publish_all_once_and_in_order(engine: Engine) -> None:
    async with engine.emptied() as core, open_store("memory://") as store, AsyncExitStack() as at:
        boxes = []
        for _ in KEYS:
            log = await at.enter_async_context(engine.service(core))
            boxes.append(await at.enter_async_context(Outbox(store, log, lease=LEASE)))
        await asyncio.gather(*(write(box, key, 50) for box, key in zip(boxes, KEYS, strict=True)))
        await emptied(boxes[0])
        assert await numbers(core) == {key: list(range(1, 51)) for key in KEYS}


@pytest.mark.parametrize("after", [False, True])
async def test_a_relay_that_dies_anywhere_doubles_nothing(engine: Engine, after: bool) -> None:
    """Also in the middle of a batch, which the engine refuses when it knows some of it."""
    for place in (4, 5, 6, 7, 9, 12):
        async with engine.emptied() as core, open_store("memory://") as store:
            await write(Outbox(store, core), "a", 5)
            life = Life(place, after=after)
            first = Outbox(seen_by(store, life), MortalLog(core, life), lease=LEASE)

            async def work(first: Outbox = first, life: Life = life) -> None:
                async with first:
                    await life.dead.wait()

            async with process(work(), life):
                await asyncio.wait_for(life.dead.wait(), 60)
                await write(Outbox(store, core), "a", 5)
                async with Outbox(store, core, lease=LEASE) as second:
                    await emptied(second)
            assert await numbers(core) == {"a": list(range(1, 11))}


@pytest.mark.slow
async def test_an_engine_that_is_killed_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    own = Engine(tmp_path_factory.mktemp("killed"))
    try:
        async with (
            own.emptied() as core,
            own.service(core) as log,
            open_store("memory://") as store,
            Outbox(store, log, lease=1) as box,
        ):
            await _outages(own, store, core, log, box)
    finally:
        own.kill()


async def _outages(own: Engine, store: Store, core: Log, log: Log, box: Outbox) -> None:
    """Commit, relay and consume while the engine is killed twice."""

    async def handle(number: int, event: Event, tx: Transaction) -> None:
        key = f"seen {event.key} {number}"
        tx.set(key, (await tx.get(key, int) or 0) + 1)

    async def kill_and_start() -> None:
        for killed, started in ((20, 40), (80, 100)):
            await until(lambda at=killed: _committed(store, at))
            own.kill()
            await until(lambda at=started: _committed(store, at))
            own.start()

    async def seen() -> bool:
        return await store.count(prefix="seen ") == 3 * 150

    spec = GroupSpec("placed", "counting", BEGINNING, ordered=True, ack_wait=1)
    consumer = Consumer(Recipient(handle, Event, Transaction), spec)
    async with consumer.on(log, inbox=Inbox(store)):
        await asyncio.gather(kill_and_start(), *(write(box, key, 150) for key in KEYS))
        await emptied(box)
        assert await numbers(core) == {key: list(range(1, 151)) for key in KEYS}
        await until(seen, seconds=40)
    effects = [await store.get(key, int) for key in await store.list("seen ")]
    assert set(effects) == {1}


async def _committed(store: Store, count: int) -> bool:
    return (await store.get("a", int) or 0) >= count
