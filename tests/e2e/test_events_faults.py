"""Events of a platform whose parts die: a checker says what was lost, doubled or mixed up.

Publishers, by HTTP and by a connection of their own, note what was acknowledged; two replicas of a
service note what they are given. Which parts die when is chosen by a seed that is printed.
`MICRO_SOAK=600` lets them die for that many seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.events import Events
from microcosmos.service import connect

from .checker import Journal
from .live import Live, alive, client, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger("tests.e2e")

SOAK = float(os.environ.get("MICRO_SOAK", "0"))
SEED = int(os.environ.get("MICRO_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

ACK_WAIT = 2.0
"""Seconds that an event is left to a replica that says nothing; also in the program below."""

SHOP = """
import msgspec
from microcosmos import Service

shop = Service("shop")


class Order(msgspec.Struct):
    number: int


@shop.endpoint
async def place(key: str, number: int) -> str:
    id = f"{key}-{number}"
    await shop.events.publish("orders." + key.partition("-")[0], Order(number), key=key, id=id)
    return id


@shop.endpoint
async def pid() -> int:
    import os
    return os.getpid()


if __name__ == "__main__":
    shop.run()
"""

BILLING = """
import asyncio, os, random
import msgspec
from microcosmos import Service
from microcosmos.events import Event, Transaction

billing = Service("billing")
journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND)


class Order(msgspec.Struct):
    number: int


def note(word, *more):
    os.write(journal, (" ".join(map(str, (word, os.getpid(), *more))) + "\\n").encode())


@billing.consume("orders.>", start="beginning", ack_wait=2, backoff=0.1)
async def bill(order: Order, event: Event) -> None:
    note("begun", event.key, order.number)
    await asyncio.sleep(random.random() / 200)
    note("worked", event.key, order.number)
    try:
        os.remove(os.environ["TRAP"])
    except FileNotFoundError:
        return
    note("trapped", event.key, order.number)
    await asyncio.sleep(60)


@billing.consume("orders.>", group="ledger", start="beginning", once=True, ack_wait=2, backoff=0.1)
async def book(order: Order, event: Event, tx: Transaction) -> None:
    tx.set("effect " + event.id, (await tx.get("effect " + event.id) or 0) + 1)
    last = await tx.get("last " + event.key) or 0
    if order.number != last + 1:
        tx.set(f"jump from {last} to {event.id}", 1)
    tx.set("last " + event.key, order.number)


@billing.endpoint
async def effects() -> dict[str, int]:
    records = await billing.store.read(prefix="effect ")
    return {one.key.partition(" ")[2]: int(one.value) for one in records}


@billing.endpoint
async def jumps() -> list[str]:
    return await billing.store.list(prefix="jump ")


note("up")

if __name__ == "__main__":
    billing.run()
"""


class Load:
    """Publishes events of a few keys, by HTTP and by a connection of its own, while the block runs.

    What is not acknowledged is published again by the same id until it is.
    """

    def __init__(self, site: Live, journal: Journal, name: str) -> None:
        self._site, self._journal, self._name = site, journal, name
        self._stop = threading.Event()
        self._refusals: set[str] = set()
        self._threads = [
            threading.Thread(target=self._by_http, args=("a",)),
            threading.Thread(target=self._by_http, args=("b",)),
            threading.Thread(target=lambda: asyncio.run(self._by_engine("c", "d"))),
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.more(5)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if error is None:
            until(lambda: not self._journal.missed())

    def more(self, count: int) -> None:
        """Wait until of each key so many more were acknowledged, and those were worked off."""
        goal = {key: self._journal.promised.get(key, 0) + count for key in self._of(*"aAbBcd")}

        def reached() -> bool:
            promised = self._journal.promised
            return all(promised.get(key, 0) >= number for key, number in goal.items())

        until(reached)
        until(lambda: not self._journal.missed(goal))

    def _of(self, *letters: str) -> list[str]:
        return [f"{self._name}-{letter}" for letter in letters]

    def _keys(self, *letters: str) -> Iterator[tuple[str, int]]:
        for number in range(1, 1_000_000):
            for key in self._of(*letters):
                yield key, number

    def _by_http(self, letter: str) -> None:
        for key, number in self._keys(letter, letter.upper()):
            self._journal.asks(key, number)
            while not self._placed(key, number):
                if self._stop.wait(0.05):
                    return
            self._journal.acknowledged(key, number)
            if self._stop.wait(0.005):
                return

    def _placed(self, key: str, number: int) -> bool:
        try:
            with client(self._site.url) as web:
                body = {"key": key, "number": number}
                answer = web.post("/shop/place", json=body, timeout=3)
        except (httpx.TransportError, AssertionError) as exc:
            self._refused(type(exc).__name__)
            return False
        if answer.status_code != 200:
            self._refused(answer.text)
        return answer.status_code == 200 and answer.json() == f"{key}-{number}"

    def _refused(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals.add(why)
            log.info("not published: %s", why)

    async def _by_engine(self, *letters: str) -> None:
        async with connect(Home(self._site.home.path)) as connection:
            events = Events(connection.platform.events)
            for key, number in self._keys(*letters):
                self._journal.asks(key, number)
                about = {"key": key, "id": f"{key}-{number}"}
                while True:
                    try:
                        await events.publish(f"orders.{self._name}", {"number": number}, **about)
                        break
                    except errors.Unavailable as exc:
                        self._refused(exc.detail)
                    if self._stop.is_set():
                        return
                self._journal.acknowledged(key, number)
                if self._stop.is_set():
                    return
                await asyncio.sleep(0.005)


class World:
    """A server with a publishing service and a consuming one of two replicas."""

    def __init__(self, site: Live) -> None:
        self.site = site
        self.journal = Journal(site.work / "journal")
        self.trap = site.work / "trap"
        self._names = iter("klmnopqrstuvwxyz")

    def start(self) -> None:
        self.site.start()
        self.site.micro("run", str(self.site.folder("shop", SHOP)))
        told = (f"JOURNAL={self.journal.file}", f"TRAP={self.trap}")
        flags = ("-i", "2", "--env_vars", told[0], "--env_vars", told[1])
        self.site.micro("run", str(self.site.folder("billing", BILLING)), *flags)

    def load(self) -> Load:
        """Publish while a block runs."""
        self.loading = Load(self.site, self.journal, next(self._names))
        return self.loading

    def replicas(self) -> list[int]:
        """Those of the consumer that are alive."""
        return [line.pid for line in self.journal.lines("up") if alive(line.pid)]

    def stored(self) -> list[str]:
        """The ids of the events in the log, in its order."""
        ids: list[str] = []
        after = 0
        while page := until(lambda after=after: self._page(after))["events"]:  # type: ignore[misc]
            ids += [one["id"] for one in page]
            after = page[-1]["sequence"]
        return ids

    def _page(self, after: int) -> Any:
        asked = {"topic": "orders.>", "limit": 1000, "after": after}
        answer = self.site.admin.get("/events/store/read", params=asked)
        # A core that was killed may not be back yet.
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200 and answer.json()

    def check(self) -> None:
        """Nothing is lost, nothing is invented, nothing is doubled, and order was kept."""
        stored = self.stored()
        effects: dict[str, int] = {}

        def all_had() -> bool:
            effects.update(self.site.web.get("/billing/effects").json())
            return len(effects) >= len(stored)

        until(all_had)
        faults = self.journal.faults(stored, effects)
        faults += self.site.web.get("/billing/jumps").json()
        log.info("%d acknowledged, %d stored, seed %d", self.journal.size, len(stored), SEED)
        assert not faults, (SEED, faults)
        assert self.site.micro("events", "deadletter", "-o", "json").json == []


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    site = Live("--gateways=1")
    try:
        world = World(site)
        world.start()
        yield world
    finally:
        site.close()


# What can happen to a platform.


def kill_engine(world: World) -> None:
    before = world.site.kill_child("nats")
    world.journal.note("killed", before)
    world.site.back("nats", before)


def kill_core(world: World) -> None:
    world.site.back("core", world.site.kill_child("core"))


def kill_gateway(world: World) -> None:
    world.site.back("gateway-1", world.site.kill_child("gateway-1"))


def kill_consumer(world: World) -> None:
    victim = random.Random(SEED).choice(world.replicas())
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(world.replicas()) == 2)


def kill_publisher(world: World) -> None:
    os.kill(int(world.site.web.get("/shop/pid").text), signal.SIGKILL)


def kill_server(world: World) -> None:
    world.site.kill()
    world.journal.note("killed", world.site.process.pid)
    world.site.start()


def stop_consumer(world: World, replica: int = 0) -> None:
    """For longer than its events are left to it: they go to the other one."""
    pid = world.replicas()[replica]
    os.kill(pid, signal.SIGSTOP)
    try:
        world.loading.more(3)
        goal = time.monotonic() + 2 * ACK_WAIT
        until(lambda: time.monotonic() > goal)
    finally:
        os.kill(pid, signal.SIGCONT)


def update_consumer(world: World) -> None:
    folder = world.site.folder("billing", f"{BILLING}\n# {time.monotonic()}")
    world.site.micro("update", str(folder))


KILLS = (kill_engine, kill_core, kill_gateway, kill_consumer, kill_publisher)
FAULTS = (*KILLS, kill_server, stop_consumer, update_consumer)


@pytest.mark.timeout(60 + 2 * SOAK)
def test_whatever_is_killed_nothing_is_lost_doubled_or_mixed_up(world: World) -> None:
    chance = random.Random(SEED)
    log.info("seed %d", SEED)
    end = time.monotonic() + SOAK
    with world.load() as load:
        for round in itertools.count():
            happening = FAULTS if round else KILLS
            for fault in chance.sample(happening, len(happening)):
                log.info("next: %s", fault.__name__)
                fault(world)
                load.more(chance.randrange(2, 8))
            if time.monotonic() >= end:
                break
    world.check()


def test_the_whole_server_is_killed_under_load(world: World) -> None:
    with world.load() as load:
        kill_server(world)
        load.more(3)
    world.check()


def test_a_replica_is_killed_between_its_work_and_its_acknowledgement(world: World) -> None:
    with world.load() as load:
        for _ in range(2):
            before = len(world.journal.lines("trapped"))
            world.trap.touch()
            until(lambda: len(world.journal.lines("trapped")) > before)  # noqa: B023
            trapped = world.journal.lines("trapped")[-1]
            os.kill(trapped.pid, signal.SIGKILL)
            until(lambda: world.journal.times("worked", trapped) == 2)  # noqa: B023
            load.more(2)
    world.check()


def test_a_replica_that_is_stopped_for_a_while_mixes_up_nothing(world: World) -> None:
    with world.load() as load:
        for replica in range(2):
            stop_consumer(world, replica)
            load.more(3)
    world.check()


def test_updates_under_load(world: World) -> None:
    with world.load() as load:
        for _ in range(2):
            update_consumer(world)
            load.more(3)
    world.check()


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("begun 1 k 1\nworked 1 k 1", ""),
        ("begun 1 k 1\nbegun 2 k 1\nworked 2 k 1\nworked 1 k 1", ""),
        ("", "lost"),
        ("begun 1 k 1", "lost"),
        ("begun 1 k 1\nworked 1 k 1\nbegun 1 k 2\nworked 1 k 2\nbegun 1 k 1", "k: 1 has begun 1"),
        ("begun 1 k 1\nworked 1 k 1\nbegun 1 k 2\nkilled 1\nbegun 1 k 1\nbegun 1 k 2", ""),
        ("begun 1 k 1\nworked 1 k 1\nbegun 1 k 2\nkilled 1\nbegun 1 k 1\nbegun 1 k 3", "begun 3"),
        ("begun 1 k 2\nworked 1 k 2\nbegun 1 k 1\nworked 1 k 1", "2 was worked after 0"),
        ("begun 1 k 1\nworked 1 k 1\nbegun 1 j 1", "nobody has published j-1"),
    ],
)
def test_the_checker_sees(tmp_path: Path, lines: str, fault: str) -> None:
    journal = Journal(tmp_path / "journal")
    journal.file.write_text(lines)
    journal.asks("k", 3)
    journal.acknowledged("k", 1)
    assert fault in " ".join(journal.faults(["k-1", "k-2", "k-3"], {"k-1": 1}))
    if not fault:
        assert journal.faults(["k-1", "k-2", "k-3"], {"k-1": 1}) == []
        assert "k-1 had 2 effects" in journal.faults(["k-1"], {"k-1": 2})
        assert "k-2 is stored 2 times" in journal.faults(["k-1", "k-2", "k-2"], {"k-1": 1})
        assert "k: 1 was stored after 2" in journal.faults(["k-2", "k-1"], {"k-1": 1})
        assert any("the log" in one for one in journal.faults([], {"k-1": 1}))
