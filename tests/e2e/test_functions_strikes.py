"""Functions that hold up or kill their workers, under load: they alone pay for it, and say so."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from .live import Live, client, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BAD = """
const hay = 'a'.repeat(2 ** 19)
async function handler({ path }) {
  if (path === 'hang') return (hay + hay).indexOf('a'.repeat(2 ** 18) + 'b')
  if (path === 'wait') await new Promise((done) => setTimeout(done, 20000))
  return 'fine'
}
"""

BAD_ON_DENO = """
async function handler({ path }) {
  if (path === 'hang') for (;;);
  return 'fine'
}
"""

SLOW = """
async function handler() {
  await new Promise((done) => setTimeout(done, 400))
  return 'good'
}
"""


class Site(Live):
    """A server with functions."""

    def deploy(self, name: str, text: str, **more: object) -> None:
        self.asked("deploy", name=name, files={"main.js": text}, **more)

    def asked(self, verb: str, **said: object) -> httpx.Response:
        answer = self.admin.post(f"/functions/{verb}", json=said)
        assert answer.status_code == 200, answer.text
        return answer

    def state(self, name: str, version: str = "v1") -> dict[str, object]:
        """What is to be known of a version that has misbehaved; empty if it has not."""
        states = self.asked("get", name=name).json().get("states", {})
        found: dict[str, object] = states.get(version, {})
        return found

    def used(self, name: str, *, requests: int) -> dict[str, Any]:
        """What is counted of a function, once so many requests are."""
        counts: dict[str, Any] = self.asked("consumption", name=name).json()
        counts = counts.get("counts", counts)
        return counts if counts.get("requests", 0) >= requests else {}

    def error(self, path: str) -> tuple[int, str]:
        answer = self.web.get(path)
        return answer.status_code, answer.json().get("Id", "")

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid("zygote")).children()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Site("--gateways=2")
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_one_that_hangs_is_set_apart_then_refused_and_pardoned(site: Site) -> None:
    site.deploy("hangs", BAD)
    site.deploy("mate", SLOW)
    assert site.web.get("/hangs").text == "fine"
    answers: dict[str, httpx.Response] = {}

    def send(method: str) -> None:
        with client(site.url) as web:
            answers[method] = web.request(method, "/mate")

    assert site.web.get("/mate").text == "good"
    threads = [threading.Thread(target=send, args=(method,)) for method in ("GET", "POST")]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    answer = site.web.get("/hangs/hang")
    for thread in threads:
        thread.join()
    assert (answer.status_code, answer.json()["Id"]) == (503, "functions.limit.cpu")
    assert "ended here after" in answer.json()["Detail"]
    assert "50 ms are allowed" in answer.json()["Detail"]
    # Its neighbour's requests are run again, where that can do no harm.
    assert answers["GET"].text == "good"
    assert (answers["POST"].status_code, answers["POST"].json()["Id"]) == (503, "functions.lost")
    assert "because of another function" in answers["POST"].json()["Detail"]
    assert site.state("mate") == {}
    first = until(lambda: site.state("hangs"))
    assert (first["state"], first["strikes"]) == ("quarantined", 1)
    assert "quarantined" in site.micro("functions", "list").out
    assert "v1 has 1 strike" in site.micro("functions", "get", "hangs").out
    assert "ended here after" in site.micro("functions", "logs", "hangs").out

    # What its worker could not tell any more is counted all the same, and once.
    used = until(lambda: site.used("hangs", requests=2))
    assert used["failures"] == {"limit.cpu": 1}
    assert used["cpu_ns"] > 50_000_000

    # In a process of its own it runs, and harms nobody else.
    with Load(site.url, "/mate", threads=1) as load:
        assert site.web.get("/hangs").text == "fine"
        assert site.error("/hangs/hang") == (503, "functions.limit.cpu")
        refused = site.web.get("/hangs")
        load.more(4)
    assert load.errors == [], load.told()
    assert (refused.status_code, refused.json()["Id"]) == (503, "functions.quarantine")
    assert refused.headers["retry-after"] == "1"
    until(lambda: site.web.get("/hangs").text == "fine")
    assert site.state("hangs")["strikes"] == 2

    assert site.micro("functions", "pardon", "hangs").out == "hangs is pardoned.\n"
    assert site.state("hangs") == {}
    assert site.micro("functions", "pardon", "hangs").out == "hangs has no strikes.\n"
    # A new version begins without strikes, whatever the one before did.
    assert site.error("/hangs/hang") == (503, "functions.limit.cpu")
    until(lambda: site.state("hangs"))
    site.deploy("hangs", "`better`")
    assert site.web.get("/hangs").text == "better"
    assert (site.state("hangs")["strikes"], site.state("hangs", "v2")) == (1, {})


def test_on_deno_several_suspects_are_told_apart_by_the_next_time(site: Site) -> None:
    site.deploy("loops", BAD_ON_DENO, engine="deno")
    site.deploy("other", SLOW, engine="deno")
    assert site.web.get("/loops").text == "fine"
    with Load(site.url, "/other", threads=2) as load:
        load.more(2)
        assert site.error("/loops/hang") == (503, "functions.limit.cpu")
        load.more(4)
    assert load.errors == [], load.told()
    until(lambda: site.state("loops").get("strikes") == 2)
    assert "suspected" not in str(site.state("loops")["reason"])
    assert "suspected" in str(site.state("other")["reason"])
    assert site.web.get("/loops").text == "fine"


def test_a_kill_from_outside_loses_no_get_and_has_nobody_refused(site: Site) -> None:
    site.deploy("steady", "`steady`")
    with Load(site.url, "/steady") as load:
        for _ in range(4):
            for worker in site.workers():
                os.kill(worker.pid, signal.SIGKILL)
            load.more(30)
    assert load.errors == [], load.told()
    assert site.state("steady").get("state") != "refused"


def test_the_level_process_is_one_and_as_quick_to_come_back(site: Site) -> None:
    site.deploy("alone", BAD, isolation="process")
    site.deploy("crowd", "`crowd`")
    before = {worker.pid for worker in site.workers()}
    assert site.web.get("/crowd").text == "crowd"
    assert site.web.get("/alone").text == "fine"
    own = {worker.pid for worker in site.workers()} - before
    assert own
    with Load(site.url, "/crowd", threads=1) as load:
        assert site.error("/alone/hang") == (503, "functions.limit.cpu")
        assert site.web.get("/alone").text == "fine"
        load.more(20)
    assert load.errors == [], load.told()
    assert load.slowest < 1.0
    assert site.asked("get", name="alone").json()["version"]["isolation"] == "process"


def test_strikes_outlive_the_host_and_the_core(site: Site) -> None:
    site.deploy("kept", BAD)
    assert site.error("/kept/hang") == (503, "functions.limit.cpu")
    before = until(lambda: site.state("kept"))
    for name in ("functions", "core"):
        site.back(name, site.kill_child(name))
    until(lambda: site.admin.post("/functions/get", json={"name": "kept"}).status_code == 200)
    assert site.state("kept") == before
    until(lambda: site.web.get("/kept").text == "fine")
    assert site.error("/kept/hang") == (503, "functions.limit.cpu")
    until(lambda: site.state("kept")["strikes"] == 2)
