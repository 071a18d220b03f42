"""`kill -9` of everything there is, under constant load, with a journal of the answers."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from microcosmos.server.drain import PATIENCE

from .doors import raw_nats
from .live import Live, alive, client, program, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger("tests.e2e")

MORE = """
import asyncio


@service.endpoint
async def slow(seconds: float) -> str:
    print("slow has begun", flush=True)
    await asyncio.sleep(seconds)
    return "done"
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    """A server with two services, of two and one replicas."""
    server = Live("--gateways=2")
    try:
        server.start()
        server.micro("run", str(server.folder("steady", program("steady", more=MORE))), "-i", "2")
        server.micro("run", "helloworld")
        yield server
    finally:
        server.close()


def pids(site: Live, path: str = "/steady", count: int = 2) -> set[int]:
    """The replicas that answer, once there are so many."""

    def found() -> set[int]:
        seen = {int(site.web.get(path).json()["pid"]) for _ in range(2 * count)}
        return seen if len(seen) == count else set()

    return until(found)


def test_a_killed_core_is_missed_by_nobody_who_calls_services(site: Live) -> None:
    before = pids(site)
    with Load(site.url, "/steady") as load:
        core = site.kill_child("core")
        load.more(30)
        site.back("core", core)
        # The command line waits for nobody, and says so in one line at most.
        said = site.type("services")
        assert said.code in (0, 4), said
        until(lambda: site.type("status").code == 0)
        load.more(30)
    assert load.errors == [], load.told()
    log.info("core: %s", load.told())
    assert pids(site) == before
    until(lambda: site.status("steady")["status"] == "running")
    # What needs the core is there again.
    site.micro("run", "helloworld", "--name", "after-core")
    assert site.call("after-core") == {"msg": "Hello World"}
    # The gateways follow the new one.
    until(lambda: all(site.web.get("/after-core").status_code == 200 for _ in range(8)))
    site.micro("kill", "after-core")


def test_a_core_killed_in_the_middle_of_a_deploy_is_taken_up_by_the_next(site: Live) -> None:
    folder = site.folder("interrupted", program("interrupted"))
    typed = site.typing("run", str(folder))
    until(lambda: "interrupted" in site.admin.post("/runtime/read", json={}).text)
    core = site.kill_child("core")
    site.back("core", core)
    said = site.ended(typed)
    assert said.code in (0, 4), said
    until(lambda: site.type("status").code == 0)
    until(lambda: site.status("interrupted")["status"] == "running")
    assert site.call("interrupted")["says"] == "one"
    site.micro("kill", "interrupted")


def test_a_killed_gateway_is_missed_only_by_the_calls_that_it_had(site: Live) -> None:
    with Load(site.url, "/steady", threads=4) as load:
        for name in ("gateway-1", "gateway-2"):
            gateway = site.kill_child(name)
            load.more(30)
            site.back(name, gateway)
            load.more(30)
    log.info("gateways: %s", load.told())
    # Each call in flight, and each open connection, may be lost once; two gateways were killed.
    assert len(load.errors) <= 8, load.told()
    assert {answer.status for answer in load.errors} <= {0}, load.told()


def test_a_killed_engine_is_missed_by_nobody_on_this_host(site: Live) -> None:
    before = pids(site)
    assert raw_nats(site, "steady", "Call", {})["says"] == "one"
    with Load(site.url, "/steady") as load:
        engine = site.kill_child("nats")
        load.more(60)
        site.back("nats", engine)

        def answers() -> bool:
            try:
                found = raw_nats(site, "steady", "Call", {"name": "again"})
            except Exception:  # noqa: BLE001 - nats-py has many ways to say that nobody is there
                return False
            return bool(found["name"] == "again")

        until(answers)
        load.more(30)
    assert load.errors == [], load.told()
    log.info("engine: %s", load.told())
    assert pids(site) == before
    site.micro("run", "helloworld", "--name", "after-engine")
    assert raw_nats(site, "after-engine", "Call", {}) is not None
    site.micro("kill", "after-engine")


def test_a_call_that_dies_with_its_replica_is_tried_at_another(site: Live) -> None:
    answers: list[httpx.Response] = []

    def call() -> None:
        with client(site.url) as web:
            answers.append(web.get("/steady/slow?seconds=1"))

    waiting = [threading.Thread(target=call) for _ in range(4)]
    running = pids(site)
    for one in waiting:
        one.start()
    os.kill(min(running), signal.SIGKILL)
    for one in waiting:
        one.join()
    assert [answer.status_code for answer in answers] == [200] * 4, [a.text for a in answers]
    assert pids(site) != running


def test_a_paused_core_holds_up_nobody_who_calls_services(site: Live) -> None:
    core = site.pid("core")
    with Load(site.url, "/steady") as load:
        os.kill(core, signal.SIGSTOP)
        load.more(100)
        os.kill(core, signal.SIGCONT)
    assert load.errors == [], load.told()
    assert load.slowest < 1.0, load.told()
    assert site.micro("services").code == 0


def test_a_killed_server_leaves_no_child_and_its_services_come_back(
    another: Callable[..., Live],
) -> None:
    site = another("--gateways=2").start()
    site.micro("run", str(site.folder("steady", program("steady"))), "-i", "2", "--metadata", "a=b")
    site.micro("run", "helloworld", "--env_vars", "SECRET=x")
    site.micro("run", str(site.folder("wrong", "raise SystemExit('no good')\n")), "--detach")
    until(lambda: site.status("wrong")["status"] == "error")
    before = site.micro("status", "-o", "json").json
    children = site.children()
    assert len(children) >= 8
    with Load(site.url, "/steady") as load:
        site.kill()
        until(lambda: not any(alive(pid) for pid in children))
    log.info("server: %s", load.told())
    assert site.refused(4, "services").startswith("micro: no server is running")
    site.start()
    until(lambda: site.web.get("/steady").status_code == 200)
    assert len(pids(site)) == 2
    until(lambda: site.web.get("/helloworld").status_code == 200)
    assert site.call("helloworld", "--name=back") == {"msg": "Hello back"}
    until(lambda: site.status("wrong")["status"] == "error")
    for row in (after := site.micro("status", "-o", "json").json):
        row["metadata"].pop("error", None)
    for row in before:
        row["metadata"].pop("error", None)
    assert after == before
    assert site.stop() == 0
    # And the same after a clean stop.
    site.start()
    until(lambda: site.web.get("/steady").status_code == 200)
    assert [row["name"] for row in site.micro("status", "-o", "json").json] == [
        row["name"] for row in before
    ]


def test_no_acknowledged_deploy_is_lost_and_none_is_invented(
    another: Callable[..., Live],
) -> None:
    site = another("--gateways=1").start()
    asked: list[str] = []
    acknowledged: list[str] = []
    stop = threading.Event()

    token = site.admin.headers["Authorization"]

    def deploy() -> None:
        with client(site.url) as web:
            web.headers["Authorization"] = token
            while not stop.is_set():
                name = f"d{len(asked)}"
                asked.append(name)
                # There is no such example: a deployment that costs no process.
                source = {"kind": "example", "location": "none"}
                try:
                    answer = web.post("/runtime/create", json={"name": name, "source": source})
                except httpx.TransportError:
                    stop.wait(0.02)
                    continue
                if answer.status_code == 200:
                    acknowledged.append(name)
                stop.wait(0.005)

    def removed() -> set[str]:
        """What was deleted, and acknowledged."""
        gone = set(random.sample(acknowledged, len(acknowledged) // 4))
        for name in gone:
            assert site.admin.post("/runtime/delete", json={"name": name}).status_code == 200
        return gone

    writer = threading.Thread(target=deploy)
    writer.start()
    try:
        for child in ("core", "nats", "core"):
            goal = len(acknowledged) + 15
            until(lambda goal=goal: len(acknowledged) >= goal)  # type: ignore[misc]
            before = site.kill_child(child)
            site.back(child, before)
        goal = len(acknowledged) + 15
        until(lambda: len(acknowledged) >= goal)
        site.kill()
    finally:
        stop.set()
        writer.join()
    site.start()
    found = {row["name"] for row in site.micro("status", "-o", "json").json}
    counts = (len(asked), len(acknowledged), len(found))
    log.info("deploys: %d asked, %d acknowledged, %d found", *counts)
    assert set(acknowledged) <= found <= set(asked)
    gone = removed()
    site.kill()
    site.start()
    assert {row["name"] for row in site.micro("status", "-o", "json").json} == found - gone


def test_ctrl_c_finishes_what_is_being_handled(another: Callable[..., Live]) -> None:
    site = another().start()
    site.micro("run", str(site.folder("steady", program("steady", more=MORE))))
    children = site.children()
    answers: list[httpx.Response] = []

    def call() -> None:
        with client(site.url) as web:
            answers.append(web.get("/steady/slow?seconds=1.5"))

    waiting = threading.Thread(target=call)
    waiting.start()
    until(lambda: "slow has begun" in site.micro("logs", "steady").out)
    assert site.stop() == 0
    waiting.join()
    assert [answer.text for answer in answers] == ['"done"']
    assert not any(alive(pid) for pid in children)
    assert not (site.home.server / "server.json").exists()
    assert not list(site.home.lanes.glob("*.sock"))
    lines = site.output.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["microcosmos", "api", "proxy", "nats", "warn"]


def test_a_second_ctrl_c_ends_it_at_once(another: Callable[..., Live]) -> None:
    site = another().start()
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    site.micro("run", str(site.folder("stubborn", stubborn + program("stubborn"))), "--detach")
    stuck = site.folder("stuck", stubborn + "print('here', flush=True)\ntime.sleep(600)\n")
    site.micro("run", str(stuck), "--detach")
    until(lambda: "here" in site.type("logs", "stuck").out)
    assert site.process is not None
    site.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        site.process.wait(0.5)
    site.process.send_signal(signal.SIGINT)
    assert site.process.wait(PATIENCE - 1) == 0
