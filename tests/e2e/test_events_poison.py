"""Events that nobody can work off, or nobody should have published, on a whole platform."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.events import MAX_PAYLOAD, Draft, Events, Receipt
from microcosmos.events.nats import publisher
from microcosmos.service import Connection, connect

from .live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MILL = """
import os
import msgspec
from microcosmos import Service
from microcosmos.events import Event

mill = Service("mill")
journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Grain(msgspec.Struct):
    number: int
    stone: bool = False


@mill.consume("grain", start="beginning", ordered=False, ack_wait=0.5, retry_limit=0, concurrency=1)
async def grind(grain: Grain, event: Event) -> None:
    if grain.stone and not os.path.exists(os.environ["MENDED"]):
        os._exit(7)
    os.write(journal, f"{event.id}\\n".encode())


@mill.consume("big", start="beginning")
async def weigh(grain: bytes, event: Event) -> None:
    os.write(journal, f"{event.id} {len(grain)}\\n".encode())


if __name__ == "__main__":
    mill.run()
"""


class Mill:
    """A server with a service of two replicas that tells what it has worked off."""

    def __init__(self, site: Live) -> None:
        self.site = site
        self.journal = site.work / "journal"
        self.mended = site.work / "mended"

    def start(self) -> None:
        self.site.start()
        told = (f"JOURNAL={self.journal}", f"MENDED={self.mended}")
        flags = ("-i", "2", "--env_vars", told[0], "--env_vars", told[1])
        self.site.micro("run", str(self.site.folder("mill", MILL)), *flags)

    @property
    def ground(self) -> list[str]:
        """What was worked off, in that order."""
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def dead(self, topic: str) -> dict[str, str]:
        """The dead letters of a topic: why, by the ids of the events."""
        letters = self.site.micro("events", "deadletter", topic, "-o", "json").json
        return {one["event"]["id"]: one["reason"] for one in letters}

    def connected(self, work: Callable[[Connection], Any]) -> Any:
        """What a program does that is connected to the server."""

        async def run() -> Any:
            async with connect(Home(self.site.home.path)) as connection:
                return await work(connection)

        return asyncio.run(run())

    def publish(self, *drafts: Draft) -> list[Receipt]:
        async def publish(connection: Connection) -> list[Receipt]:
            return [(await connection.platform.events.publish(one))[0] for one in drafts]

        found: list[Receipt] = self.connected(publish)
        return found


@pytest.fixture(scope="module")
def mill() -> Iterator[Mill]:
    site = Live("--gateways=1")
    try:
        mill = Mill(site)
        mill.start()
        yield mill
    finally:
        site.close()


def test_poison_stops_nothing_and_can_be_given_again(mill: Mill) -> None:
    site = mill.site
    good = [Draft("grain", b'{"number":%d}' % n, f"good-{n}") for n in range(6)]
    mill.publish(
        good[0],
        Draft("grain", b'{"number":0,"stone":true}', "stone"),
        good[1],
        Draft("grain", b"{", "no-json"),
        good[2],
        Draft("grain", b'{"number":"one"}', "no-number"),
        good[3],
        Draft("grain", b'{"number":1}', "of-no-schema", schema=999),
        good[4],
    )
    # A consumer that has died of it again and again is rid of it; others go on meanwhile.
    until(lambda: len(mill.dead("grain")) == 4, 30)
    assert "nobody said what came of it" in mill.dead("grain")["stone"]
    assert "cannot be read" in mill.dead("grain")["no-json"]
    assert "$.number" in mill.dead("grain")["no-number"]
    assert "the event's schema, 999, is unknown" in mill.dead("grain")["of-no-schema"]
    mill.publish(good[5])
    until(lambda: set(mill.ground) == {one.id for one in good})
    # Mended, it is given what it could not do; what nobody can do comes back.
    mill.mended.touch()
    assert site.micro("events", "redrive", "grain", "--group", "mill").out.startswith("4 ")
    until(lambda: "stone" in mill.ground)
    until(lambda: mill.dead("grain").keys() == {"no-json", "no-number", "of-no-schema"})
    assert mill.ground.count("good-0") == 1
    # From the beginning everything comes again, the dead ones too.
    site.micro("events", "replay", "grain", "--group", "mill")
    until(lambda: mill.ground.count("good-5") == 2)
    until(lambda: all(mill.ground.count(one.id) == 2 for one in good))
    until(lambda: site.status("mill")["status"] == "running")


def test_a_payload_that_breaks_its_schema_is_a_dead_letter(mill: Mill) -> None:
    site = mill.site
    schema = '{"type":"object","properties":{"kilos":{"type":"integer"}},"required":["kilos"]}'
    body = {"schemaType": "JSON", "schema": schema}
    answer = site.admin.post("/schemas/subjects/big-value/versions", json=body)
    assert answer.status_code == 200, answer.text
    id = answer.json()["id"]
    mill.publish(
        Draft("big", b'{"kilos":1}', "fits", schema=id),
        Draft("big", b'{"kilos":"one"}', "fits-not", schema=id),
    )
    until(lambda: "fits 11" in mill.ground)
    until(lambda: mill.dead("big"))
    assert f"schema {id}: $.kilos" in mill.dead("big")["fits-not"]
    refused = site.refused(64, "events", "publish", "big", '{"kilos":"one"}')
    assert "$.kilos" in refused


def test_the_largest_payload_and_one_byte_more(mill: Mill) -> None:
    mill.publish(Draft("big", b"x" * MAX_PAYLOAD, "giant"))
    until(lambda: f"giant {MAX_PAYLOAD}" in mill.ground)
    with pytest.raises(errors.TooLarge) as told:
        mill.publish(Draft("big", b"x" * (MAX_PAYLOAD + 1)))
    assert "store it as a blob" in told.value.detail
    assert "\n" not in told.value.detail
    text = base64.b64encode(b"x" * MAX_PAYLOAD).decode()
    answer = mill.site.admin.post("/events/stream/publish", json={"topic": "big", "payload": text})
    assert answer.status_code == 413, answer.text
    assert "\n" not in answer.json()["Detail"]


def test_ten_thousand_topics(mill: Mill) -> None:
    names = [f"many.number-{number}" for number in range(10_000)]

    async def publish(connection: Connection) -> list[float]:
        log = connection.platform.events
        took = []
        for first in range(0, len(names), 1000):
            began = time.monotonic()
            await log.publish(*(Draft(one, b"{}") for one in names[first : first + 1000]))
            took.append(time.monotonic() - began)
        return took

    took = mill.connected(publish)
    listed = mill.site.micro("events", "topics", "many.*").lines
    assert [line.split()[0] for line in listed[1:]] == sorted(names)
    found = mill.site.admin.get("/events/topics/list", params={"topic": "many.*"}).json()["topics"]
    assert len(found) == len(names)
    # Publishing does not slow down with their number; much is left for a busy machine.
    assert min(took[5:]) < 5 * min(took[:5]), took
    assert mill.site.micro("events", "inspect", "many.number-9999").code == 0


def test_who_is_slow_holds_up_nobody_else(mill: Mill) -> None:
    """Who listens and who consumes is stopped; nobody waits for them."""
    site = mill.site
    stopped = [
        site.typing("broker", "subscribe", "slow"),
        site.typing("events", "consume", "slow", "--group", "slow"),
    ]
    until(lambda: site.micro("events", "groups", "slow", "-o", "json").json)
    for one in stopped:
        one.send_signal(signal.SIGSTOP)
    payload = b"x" * 100_000

    async def work(connection: Connection) -> list[int]:
        events = Events(connection.platform.events)
        found: list[int] = []
        async with asyncio.timeout(60), connection.broker.subscribe("slow") as messages:
            for number in range(300):
                await connection.broker.publish("slow", payload)
                await anext(aiter(messages))
                if number < 20:
                    await events.publish("slow", {"number": number})
            async with aclosing(events.consume("slow", offset="beginning")) as all_of_them:
                async for event in all_of_them:
                    found.append(event.unmarshal()["number"])
                    if len(found) == 20:
                        break
        return found

    try:
        assert mill.connected(work) == list(range(20))
    finally:
        for one in stopped:
            one.send_signal(signal.SIGCONT)
    # Going on, it is given what it missed.
    lines = iter(stopped[1].stdout or ())
    found = [json.loads(next(lines))["payload"]["number"] for _ in range(20)]
    assert sorted(found) == list(range(20))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Live, Path]]:
    """A server whose events are on a disk that has 8 MB left, and the file that fills it."""
    home = Path(tempfile.mkdtemp(prefix="e2e-", dir="/tmp"))
    disk = home / "server" / "nats"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=112m,mode=700", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        shutil.rmtree(home)
        pytest.skip("only who may mount has a small disk")
    site = Live("--gateways=1", home=home)
    try:
        site.start()
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 104 * 1024 * 1024)
        monkeypatch.setattr(publisher, "PUBLISH_PATIENCE", 1.5)
        yield site, ballast
    finally:
        site.end()
        subprocess.run(["umount", "-l", str(disk)], check=True)
        site.close()


def test_a_full_disk_refuses_and_takes_again_when_there_is_room(full: tuple[Live, Path]) -> None:
    site, ballast = full
    asked: list[str] = []
    acknowledged: list[str] = []

    async def publish(connection: Connection) -> str:
        try:
            for number in range(100):
                asked.append(f"full-{number}")
                draft = Draft("full", b"x" * 500_000, asked[-1])
                await connection.platform.events.publish(draft)
                acknowledged.append(asked[-1])
        except errors.Unavailable as exc:
            return exc.detail
        return ""

    refused = Mill(site).connected(publish)
    assert "its disk may be full" in refused
    assert "\n" not in refused
    assert acknowledged
    # The engine takes nothing any more, but gives what it has.
    assert site.micro("events", "topics").lines[1].split()[0] == "full"
    ballast.unlink()
    site.micro("events", "publish", "full", '"again"', "--id", "again")
    found = [one["id"] for one in site.micro("events", "read", "full", "-o", "json").json]
    assert found in ([*acknowledged, "again"], [*asked, "again"])
