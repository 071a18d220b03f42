"""What one process publishes at once is stored in the order in which it was published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from microcosmos.events.interface import BEGINNING, Draft, Event, GroupSpec, Receipt
from microcosmos.events.nats import EngineLog, NatsLog, publisher
from microcosmos.rpc.connection import connect

from .engine import SECRET, Engine
from .wire_tap import tapped

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


class Beginning:
    """Begins to publish numbers, each in a task of its own."""

    def __init__(self, log: EngineLog | NatsLog) -> None:
        self._log = log
        self.tasks: list[asyncio.Task[list[Receipt]]] = []

    def __call__(self, size: int = 0) -> None:
        payload = b"%d" % len(self.tasks)
        draft = Draft("t", payload + b" " * size)
        self.tasks.append(asyncio.create_task(self._log.publish(draft)))


def numbers(events: list[Event]) -> list[int]:
    return [int(event.payload) for event in events]


async def test_who_comes_as_a_log_is_opened_waits_for_those_before(engine: Engine) -> None:
    async with engine.emptied() as core, engine.service(core) as log:
        begin = Beginning(log)
        for _ in range(5):
            begin()
        while not any(task.done() for task in begin.tasks):
            begin()
            await asyncio.sleep(0)
        await asyncio.gather(*begin.tasks)
        assert numbers(await core.read("t", limit=1000)) == [*range(len(begin.tasks))][:1000]


async def test_who_comes_as_there_is_room_again_waits_for_those_before(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_UNACKED", 3)
    async with engine.emptied() as log:
        begin = Beginning(log)
        for _ in range(10):
            begin()
        while sum(task.done() for task in begin.tasks) < 10:
            begin()
            await asyncio.sleep(0)
        await asyncio.gather(*begin.tasks)
        assert numbers(await log.read("t", limit=1000)) == [*range(len(begin.tasks))][:1000]


async def test_what_waits_to_be_written_overtakes_nothing_that_was_lost(engine: Engine) -> None:
    async with (
        engine.emptied() as core,
        tapped(engine.url) as tap,
        connect(tap.url) as nc,
        NatsLog(nc, secret=SECRET) as log,
    ):
        begin = Beginning(log)
        tap.stuck = True
        # It fills what the kernel takes, so that the next ones are not written.
        begin(size=8_000_000)
        await asyncio.sleep(0)
        while not nc._flush_queue.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(3):
            begin()
            await asyncio.sleep(0)
        assert nc.pending_data_size
        tap.cut()
        await asyncio.gather(*begin.tasks)
        assert numbers(await core.read("t")) == [0, 1, 2, 3]


async def test_who_pulls_as_a_member_stops_to_linger_hears_of_the_next_event(
    engine: Engine,
) -> None:
    async with (
        engine.emptied() as log,
        log.group(GroupSpec("t", "g", BEGINNING, ordered=True)) as group,
    ):
        await log.publish(Draft("t", b"0"))
        (first,) = await group.pull(16)
        await group.ack_sync(first)

        async def again() -> list[int]:
            await asyncio.sleep(0.04)
            return numbers([one.event for one in await group.pull(16)])

        pulling = asyncio.create_task(again())
        await asyncio.sleep(0)
        # Busy until both are due, it pulls and the member turns to something else at once.
        time.sleep(0.1)  # noqa: ASYNC251
        await asyncio.sleep(0.01)
        await log.publish(Draft("t", b"1"))
        async with asyncio.timeout(10):
            assert await pulling == [1]
