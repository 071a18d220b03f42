"""`micro update` while people call: nobody sees it."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

import pytest

from .live import Live, program, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger("tests.e2e")

Another = Callable[..., Live]


def says(live: Live, name: str, version: str) -> None:
    """Wait until a version answers: the one before still drains when an update is said to be."""
    until(lambda: live.web.get(f"/{name}").json()["says"] == version)


def test_updates_of_a_folder_lose_no_request(live: Live) -> None:
    with (
        live.running("rolls", program("rolls", "v0"), "-i", "2") as folder,
        Load(live.url, "/rolls") as load,
    ):
        for number in range(1, 5):
            (folder / "main.py").write_text(program("rolls", f"v{number}"))
            live.micro("update", str(folder))
            says(live, "rolls", f"v{number}")
            load.more(20)
    assert load.errors == [], load.told()


def test_slow_calls_are_finished_by_the_replica_that_has_them(live: Live) -> None:
    more = """
import asyncio


@service.endpoint
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return str(os.getpid())
"""
    with (
        live.running("drains", program("drains", more=more)) as folder,
        Load(live.url, "/drains/slow?seconds=0.3", threads=4) as load,
    ):
        before = live.web.get("/drains").json()["pid"]
        live.micro("update", str(folder))
        load.more(8)
        assert live.web.get("/drains").json()["pid"] != before
    assert load.errors == [], load.told()


def test_a_broken_update_leaves_what_runs(live: Live) -> None:
    with (
        live.running("stays", program("stays")) as folder,
        Load(live.url, "/stays") as load,
    ):
        before = live.web.get("/stays").json()
        (folder / "main.py").write_text("print('half way')\nraise SystemExit('no database here')\n")
        said = live.type("update", str(folder))
        assert said.code == 127
        assert said.out == ""
        *lines, last = said.err.splitlines()
        assert lines == ["half way", "no database here"]
        told = "micro: update failed, the version before stays: no database here (trace "
        assert last.startswith(told)
        assert live.web.get("/stays").json() == before
        row = live.status("stays")
        assert row["status"] == "running"
        assert row["metadata"]["error"].startswith("update failed, the version before stays: ")
        (folder / "main.py").write_text(program("stays", "mended"))
        live.micro("update", str(folder))
        says(live, "stays", "mended")
        assert "error" not in live.status("stays")["metadata"]
        load.more(20)
    assert load.errors == [], load.told()


def test_a_build_that_breaks_in_an_update_leaves_what_runs(live: Live) -> None:
    with live.running("keeps", program("keeps")) as folder:
        (folder / "requirements.txt").write_text("--no-index\nnosuchthing==9.9\n")
        said = live.type("update", str(folder))
        assert said.code == 127
        assert "update failed, the version before stays: the build failed" in said.err
        assert live.call("keeps")["says"] == "one"
        row = live.status("keeps")
        assert (row["status"], row["build"]) == ("running", "failed")


def test_a_killed_replica_is_missed_by_its_own_callers_for_less_than_a_second(live: Live) -> None:
    with (
        live.running("victim", program("victim"), "-i", "3"),
        live.running("neighbour", program("neighbour")),
        Load(live.url, "/victim") as own,
        Load(live.url, "/neighbour") as other,
    ):
        windows = []
        for _ in range(3):
            pid = int(live.web.get("/victim").json()["pid"])
            before = len(own.journal)
            os.kill(pid, signal.SIGKILL)
            own.more(60)
            until(lambda: len(replicas(live, "victim")) == 3)
            windows.append(own.missed(before))
        # Callers in step with each other may each meet the same replica for a while.
        until(lambda: len({answer.text for answer in own.journal[-200:] if answer.good}) == 3)
    assert other.errors == [], other.told()
    # Each time it is less where nothing else runs; a busy machine is slow now and then.
    assert min(windows) < 1.0, own.told()
    assert len(own.errors) <= 6, own.told()
    log.info("replica: %s", own.told())


def test_the_only_replica_is_back_within_a_second(live: Live) -> None:
    began = time.monotonic()
    with (
        live.running("lonely", program("lonely")),
        live.running("bystander", program("bystander")),
    ):
        start = (time.monotonic() - began) / 2
        with Load(live.url, "/lonely") as own, Load(live.url, "/bystander") as other:
            os.kill(int(live.web.get("/lonely").json()["pid"]), signal.SIGKILL)
            own.more(40)
    assert other.errors == [], other.told()
    assert {answer.status for answer in own.errors} <= {503}, own.told()
    log.info("only replica: %s", own.told())
    # On a quiet machine under one second; on a busy one no process starts as fast.
    assert own.window < max(3.0, 2 * start), own.told()


def test_nobody_waits_for_a_dead_replica_though_the_engine_has_not_noticed(
    another: Another,
) -> None:
    server = another().start()
    with server.running("lonely", program("lonely")):
        pid = int(server.web.get("/lonely").json()["pid"])
        engine = server.pid("nats")
        os.kill(engine, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            # First the socket refuses, later the registry says it; the engine never does.
            lost = until(lambda: (a := server.web.get("/lonely")).status_code != 200 and a)
            told = [server.web.get("/lonely") for _ in range(20)]
            known = {"service": "lonely"}
            until(lambda: server.web.get("/registry/getService", params=known).status_code == 404)
            told += [server.web.get("/lonely") for _ in range(20)]
        finally:
            os.kill(engine, signal.SIGCONT)
        for answer in (lost, *told):
            assert answer.status_code == 503, answer.text
            if answer is not lost:
                assert answer.json()["Detail"].startswith("no replica of lonely is alive")
        until(lambda: server.web.get("/lonely").status_code == 200)


def replicas(live: Live, name: str) -> list[str]:
    found = live.web.get("/registry/getService", params={"service": name}).json()["services"]
    return [node["id"] for service in found for node in service["nodes"]]
