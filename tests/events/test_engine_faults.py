"""The engine and its clients die, and the wire loses things: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.events.interface import (
    BEGINNING,
    Draft,
    Event,
    Group,
    GroupSpec,
    Log,
    Receipt,
    Schedule,
)
from microcosmos.events.nats import Frozen, NatsLog, api, member, publisher
from microcosmos.rpc.connection import connect
from microcosmos.server.mending import Mending

from .checker import Journal
from .engine import SECRET, Engine
from .wire_tap import Tap, tapped

pytestmark = [pytest.mark.e2e]

KEYS = ("a", "b", "c", "d")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that a test may kill."""
    engine = Engine(tmp_path)
    yield engine
    engine.kill()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that lives on."""
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.01)


async def everything(log: Log, topic: str = ">") -> list[Event]:
    """All events of a topic."""
    found: list[Event] = []
    while page := await log.read(topic, limit=1000, after=found[-1].sequence if found else 0):
        found += page
    return found


async def pulled(group: Group) -> list[str]:
    """The payloads of the next events, each acknowledged."""
    async with asyncio.timeout(60):
        found = await group.pull(10)
    for one in found:
        await group.ack_sync(one)
    return [one.event.payload.decode() for one in found]


class Load:
    """Publishers and members at work, and what they were promised."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.stopping = False

    async def publish(self, log: Log, key: str) -> None:
        """Publish without waiting for what is under way, up to 20; now and then a batch."""
        under_way: deque[asyncio.Task[list[Receipt]]] = deque()
        async with asyncio.TaskGroup() as tasks:
            while under_way or not self.stopping:
                if len(under_way) == 20 or self.stopping:
                    for receipt in await under_way.popleft():
                        self.journal.acknowledged(key, receipt)
                elif len(self.journal.promised.get(key, ())) % 50 == 49:
                    # What is stored at once is not in line with what is under way.
                    while under_way:
                        for receipt in await under_way.popleft():
                            self.journal.acknowledged(key, receipt)
                    for receipt in await log.publish(*(Draft("t", b"{}", key=key),) * 5):
                        self.journal.acknowledged(key, receipt)
                else:
                    under_way.append(tasks.create_task(log.publish(Draft("t", b"{}", key=key))))
                    await asyncio.sleep(0.002)

    async def work(self, log: Log, spec: GroupSpec) -> None:
        """Work a group off: first the effect, then the acknowledgement."""
        async with log.group(spec) as group:
            while True:
                for delivery in await group.pull(16):
                    self.journal.worked(delivery.event)
                    # Lost ones are given out again.
                    with contextlib.suppress(errors.Unavailable):
                        await group.ack(delivery)

    async def done(self) -> None:
        """Wait until everything was worked off."""
        await until(lambda: not self.journal.missed())


@pytest.mark.slow
async def test_the_engine_is_killed_under_load(engine: Engine) -> None:
    journal = Journal()
    load = Load(journal)
    spec = GroupSpec("t", "g", BEGINNING, ordered=True, ack_wait=0.5)
    async with (
        engine.log() as core,
        engine.service(core) as one,
        engine.service(core) as two,
        asyncio.TaskGroup() as tasks,
    ):
        members = [tasks.create_task(load.work(log, spec)) for log in (one, two)]
        publishing = [
            tasks.create_task(load.publish(log, key))
            for key, log in zip(KEYS, (one, one, two, core), strict=True)
        ]
        for round in range(3):
            await until(lambda: len(journal.effects) >= 100 * (round + 1))  # noqa: B023
            engine.kill()
            await asyncio.sleep(0.05)
            await asyncio.to_thread(engine.start)
        load.stopping = True
        await asyncio.wait(publishing, timeout=60)
        await load.done()
        for task in members:
            task.cancel()
        log = await everything(core)
    assert sum(map(len, journal.promised.values())) > 100
    assert journal.lost(log) == []
    assert journal.twice(log) == []
    assert journal.disordered(log) == []
    assert journal.jumped() == []


PROGRAM = """
import asyncio, sys
from microcosmos.events.interface import GroupSpec
from microcosmos.events.nats import NatsLog
from microcosmos.rpc.connection import connect

async def main(url):
    async with connect(url) as nc, NatsLog(nc, secret=sys.argv[2].encode()) as log:
        spec = GroupSpec("t", "g", ordered=sys.argv[3] == "ordered", ack_wait=0.5)
        async with log.group(spec) as group:
            (delivery,) = await group.pull(1)
            print(delivery.event.id, flush=True)
            await asyncio.sleep(60)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("order", ["ordered", "any"])
async def test_a_consumer_is_killed_between_work_and_acknowledgement(
    steady: Engine, order: str
) -> None:
    async with steady.emptied() as log:
        spec = GroupSpec("t", "g", ordered=order == "ordered", ack_wait=0.5)
        async with log.group(spec):
            pass
        first, second = await log.publish(Draft("t", b"1", key="k"), Draft("t", b"2", key="k"))
        with subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", PROGRAM, steady.url, SECRET.decode(), order],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            said = await asyncio.to_thread(process.stdout.readline)
            process.kill()
        assert said.strip() == first.id
        attempts: dict[str, int] = {}
        order_of_work = []
        async with log.group(spec) as group, asyncio.timeout(60):
            while len(attempts) < 2:
                for one in await group.pull(2):
                    attempts[one.event.id] = one.attempt
                    order_of_work.append(one.event.id)
                    await group.ack_sync(one)
        assert attempts == {first.id: 2, second.id: 1}
        if order == "ordered":
            assert order_of_work == [first.id, second.id]


@contextlib.asynccontextmanager
async def behind(tap: Tap) -> AsyncIterator[NatsLog]:
    """A log by way of a tap."""
    async with connect(tap.url) as nc, NatsLog(nc, secret=SECRET) as log:
        yield log


async def test_an_acknowledgement_that_is_lost_leads_to_another_delivery(
    steady: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        steady.emptied() as log,
        tapped(steady.url) as tap,
        behind(tap) as mine,
        mine.group(GroupSpec("t", "g", ack_wait=1)) as group,
    ):
        await log.publish(Draft("t", b"1"))
        (first,) = await group.pull(1)
        tap.deaf = True
        await group.ack(first)
        with monkeypatch.context() as patch:
            patch.setattr(api, "PATIENCE", 0.1)
            with pytest.raises(errors.Unavailable):
                await group.ack_sync(first)
        tap.cut()
        async with asyncio.timeout(60):
            (again,) = await group.pull(1)
        assert (again.event, again.attempt) == (first.event, 2)
        await group.ack_sync(again)
        (state,) = await log.groups()
        assert (state.lag, state.pending) == (0, 0)


async def test_an_event_whose_receipt_is_lost_is_stored_once(steady: Engine) -> None:
    async with steady.emptied() as log, tapped(steady.url) as tap, behind(tap) as mine:
        for number, drafts in enumerate(([b"1"], [b"1", b"2", b"3"])):
            topic = f"t{number}"
            tap.mute = True
            publishing = asyncio.create_task(mine.publish(*(Draft(topic, one) for one in drafts)))
            while len(await log.read(topic)) < len(drafts):
                pass
            assert not publishing.done()
            tap.cut()
            receipts = await publishing
            events = await log.read(topic)
            # Who has published them does not hear that somebody was faster.
            assert [(one.id, one.sequence, False) for one in events] == [
                (one.id, one.sequence, one.duplicate) for one in receipts
            ]


async def test_a_request_that_is_lost_is_made_again(
    steady: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member, "BEAT", 0.2)
    async with (
        steady.emptied() as log,
        tapped(steady.url) as tap,
        behind(tap) as mine,
        mine.group(GroupSpec("t", "g")) as group,
    ):
        tap.deaf = True
        pulling = asyncio.create_task(group.pull(1))
        await asyncio.sleep(0.1)
        tap.deaf = False
        await log.publish(Draft("t", b"1"))
        async with asyncio.timeout(60):
            (delivery,) = await pulling
        assert delivery.event.payload == b"1"


async def test_nobodys_group_goes_on_when_the_engine_was_killed(engine: Engine) -> None:
    async with engine.log() as log, engine.service(log) as service:
        for mine in (log, service):
            async with mine.group(GroupSpec("t")) as group:
                await log.publish(Draft("t", b"1"), Draft("t", b"2"))
                assert await pulled(group) == ["1", "2"]
                await log.publish(Draft("t", b"3"))
                async with asyncio.timeout(60):
                    (third,) = await group.pull(1)
                engine.kill()
                engine.start()
                await log.publish(Draft("t", b"4"))
                found: list[str] = []
                while found != ["3", "4"]:
                    found += await pulled(group)
                assert third.event.payload == b"3"


async def test_an_engine_that_stays_away_is_said_to_be(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.log() as log, log.group(GroupSpec("t", "g")) as group:
        await log.publish(Draft("t", b"1"))
        (delivery,) = await group.pull(1)
        monkeypatch.setattr(publisher, "PUBLISH_PATIENCE", 0.3)
        monkeypatch.setattr(member, "AWAY", 0.1)
        engine.kill()
        with pytest.raises(errors.Unavailable, match=r"has stored nothing for 0.3 s"):
            await log.publish(Draft("t", b"2"))
        with pytest.raises(errors.Unavailable, match="has stored nothing"):
            await log.publish(Draft("t", b"2"), Draft("t", b"3"))
        for doing in (
            *(group.pull(1), group.ack(delivery), group.ack_sync(delivery), group.nack(delivery)),
            *(group.working(delivery), group.bury(delivery, "bad"), log.read("t"), log.topics()),
            *(log.inspect("t"), log.groups(), log.create("t"), log.purge("t"), log.dead()),
        ):
            with pytest.raises(errors.Unavailable, match="engine"):
                await doing
        with pytest.raises(errors.Unavailable, match="engine"):
            async with log.group(GroupSpec("t", "h")):
                pass
        engine.start()
        monkeypatch.undo()
        await log.publish(Draft("t", b"4"))
        assert [one.payload for one in await log.read("t")][-1] == b"4"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Engine]:
    """An engine that has little room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only who may mount has a small disk")
    try:
        engine = Engine(folder)
        try:
            yield engine
        finally:
            engine.kill()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def filled(log: Log, journal: Journal) -> None:
    """Publish until no more can be stored."""
    for _ in range(1000):
        (receipt,) = await log.publish(Draft("t", b"x" * 100_000, key="k"))
        journal.acknowledged("k", receipt)


async def test_a_full_disk_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    """The engine fills three quarters of what was free when it was started."""
    journal = Journal()
    with small_disk(tmp_path / "disk", "16m") as engine:
        async with engine.log() as log:
            with pytest.raises(errors.Unavailable, match="disk may be full"):
                await filled(log, journal)
            assert len(journal.promised["k"]) > 20
            # What was acknowledged is there.
            assert journal.lost(await everything(log)) == []
            await log.check()
            # And it heals, once something is forgotten.
            await log.purge("t", keep=5)
            (receipt,) = await log.publish(Draft("t", b"x" * 100_000))
            assert receipt.sequence


async def test_a_disk_that_others_have_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SILENCE", 0.3)
    journal = Journal()
    filler = tmp_path / "disk" / "filler"
    with small_disk(tmp_path / "disk", "16m") as engine:
        async with engine.log() as log:
            await log.publish(Draft("t", b"x" * 100_000))
            filler.write_bytes(b"x" * 14_000_000)
            with pytest.raises(errors.Unavailable, match="no space left on device"):
                await filled(log, journal)
            with pytest.raises(Frozen, match="no space left on device"):
                await log.check()
            assert journal.lost(await everything(log)) == []
            ended: list[bool] = []
            mending = Mending(
                engine.folder, lambda: [log], lambda: ended.append(True), room=8_000_000
            )
            await mending.look()
            # Started again it could not write either.
            assert not ended
            filler.unlink()
            await mending.look()
            assert ended == [True]
            engine.kill()
            engine.start()
        async with engine.log() as log:
            assert journal.lost(await everything(log)) == []
            await log.check()
            (receipt,) = await log.publish(Draft("t", b"x" * 100_000))
            assert receipt.sequence
            mended = Mending(engine.folder, lambda: [log], lambda: ended.append(True))
            await mended.look()
            assert ended == [True]


async def test_ten_thousand_topics(steady: Engine) -> None:
    async with steady.emptied() as log:
        names = [f"shop.number-{number}.orders" for number in range(10_000)]
        for first in range(0, len(names), 1000):
            await log.publish(*(Draft(one, b"{}", key=one) for one in names[first : first + 1000]))
        found = await log.topics()
        assert sorted(one.topic for one in found) == sorted(names)
        assert {one.events for one in found} == {1}
        assert [one.topic for one in await log.topics("*.number-77.>")] == [names[77]]
        assert (await log.inspect(names[5000])).events == 1


async def test_more_batches_than_the_engine_takes_at_once(steady: Engine) -> None:
    async with steady.emptied() as log, contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(steady.service(log)) for _ in range(8)]
        await asyncio.gather(
            *(
                one.publish(*(Draft("t", b"%d" % number) for number in range(20)))
                for one in others
                for _ in range(8)
            )
        )
        events = await everything(log)
        assert len(events) == 8 * 8 * 20
        # Each was stored whole.
        payloads = [int(one.payload) for one in events]
        assert payloads == list(range(20)) * 64


async def test_nothing_is_left_of_a_namespace(engine: Engine) -> None:
    async with engine.log() as log:
        await log.publish(Draft("t", b"1"))
        await log.create("t", ttl=5)
        async with log.group(GroupSpec("t", "g", BEGINNING)) as group:
            await group.bury((await group.pull(1))[0], "bad")
        assert list(engine.streams.rglob("*.blk"))
        await log.destroy()
        await log.destroy()
        # The engine removes the files when it has said so.
        await until(lambda: not any(names for _, _, names in os.walk(engine.streams)))


async def test_nothing_comes_back_of_a_namespace_whose_files_could_not_be_removed(
    engine: Engine,
) -> None:
    async with engine.log() as log:
        await log.publish(Draft("t", b"1"))
        await log.schedule(Schedule("s", Draft("t", b"1"), "@daily"))
        (streams,) = engine.streams.glob("*/streams")
        # Where the engine puts what it is about to remove is what it has not removed yet.
        (streams / ".events" / "x").mkdir(parents=True)
        await log.destroy()
        assert (streams / "events").is_dir()
    async with engine.log() as log:
        assert await log.read("t") == []
        assert await log.schedules() == []


async def test_a_publisher_hears_how_long_events_are_kept(steady: Engine) -> None:
    async with steady.emptied() as core, steady.service(core) as service:
        await service.publish(Draft("t", b"1"))
        assert await kept(core) == ""
        for ttl, said in ((100, "100s"), (200, "200s"), (0, "")):
            await core.create("t", ttl=ttl)
            async with asyncio.timeout(60):
                while await kept(core) != said:
                    await service.publish(Draft("t", b"1"))


async def kept(core: NatsLog) -> str:
    """How long the engine keeps the newest event of a topic."""
    stored = await api.Api(core.nc).get("events", last_by_subj="events.log.0.t")
    assert stored is not None
    return stored.headers.get("Nats-TTL", "")
