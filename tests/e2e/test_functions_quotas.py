"""Quotas and replays of functions on a real server, as people use them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .live import Live, until

pytestmark = pytest.mark.e2e

WORLD = """
const loaded = Math.random()
async function handler(request) {
  await new Promise((done) => setTimeout(done, 3_600_000))
  return [loaded, Math.random(), crypto.randomUUID(), new Date(), request.query, Date.now()]
}
"""

MODULE = """
export default { async fetch(request: Request): Promise<Response> {
  await new Promise((done) => setTimeout(done, 3_600_000))
  return Response.json([Math.random(), crypto.randomUUID(), new Date()])
} }
"""

PYTHON = """
import random
import time


def handler(request, env):
    time.sleep(3600)
    return [random.random(), time.time()]
"""

EVENTS = """
const handler = () => 'answered'
const consume = (event) => console.log(`took ${event.payload}, attempt ${event.attempt}`)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    live = Live("--gateways=1")
    try:
        live.start()
        deploy(live, "limited", EVENTS, "index.js", "--on", "events:orders")
        yield live
    finally:
        live.close()


def deploy(live: Live, name: str, code: str, file: str = "index.js", *flags: str) -> None:
    path = live.work / f"{name}-{file}"
    path.write_text(code)
    live.micro("functions", "deploy", name, str(path), *flags)


def test_what_is_used_up_is_refused_until_more_is_allowed(server: Live) -> None:
    server.micro("functions", "quota", "set", "limited", "requests=20/month", "--soft", "50%")
    until(lambda: server.web.get("/limited").status_code == 429, 10)
    answer = server.web.get("/limited")
    assert answer.json()["Id"] == "functions.quota"
    assert int(answer.headers["retry-after"]) > 1
    for more in ([], ["--seed", "1"]):
        said = server.type("functions", "invoke", "limited", *more)
        assert (said.code, json.loads(said.out)["Id"]) == (127, "functions.quota")
    assert "used up" in server.refused(127, "call", "limited", "Limited.Call", "{}")
    (row,) = json.loads(
        server.micro("functions", "quota", "list", "limited", "--output", "json").out
    )
    # Counts are a second late at most, so it may be a little more.
    assert row["used"] >= row["most"] == 20
    assert row["spent"] is True
    events = until(lambda: _events(server))
    assert [(one["name"], one["measure"], one["soft"]) for one in events] == [
        ("limited", "requests", 0.5)
    ]
    # Events wait, though the core and the host are started again meanwhile.
    server.micro("events", "publish", "orders", "7")
    for name in ("core", "functions"):
        server.back(name, server.kill_child(name))
    assert server.web.get("/limited").status_code == 429
    until(lambda: server.type("functions", "list").code == 0)
    assert "took" not in server.micro("functions", "logs", "limited").out
    server.micro("functions", "quota", "delete", "limited", "requests/month")
    until(lambda: server.web.get("/limited").status_code == 200, 2)
    until(lambda: "took 7, attempt 1" in server.micro("functions", "logs", "limited").out)
    assert len(_events(server)) == 1


def _events(server: Live) -> list[dict[str, object]]:
    read = server.micro("events", "read", "quota", "--output", "json").out
    return [one["payload"] for one in json.loads(read or "[]")]


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        (["set", "limited", "heap=5MiB/hour"], "use --limit heap"),
        (["set", "limited", "speed=5/hour"], "'speed' is no measure; one of requests,"),
        (["set", "limited", "requests=5"], "not of the form requests=10000/hour"),
        (["set", "limited", "requests=many/hour"], "'many' is no amount"),
        (["set", "limited", "requests=5/week"], "'week' is no period"),
        (["set", "limited", "requests=5/hour", "--soft", "150%"], "soft: 1.5 is no part"),
        (["set", "limited", "requests=5/hour", "--soft", "a lot"], "write it like 80%"),
        (["set", "limited"], "say a quota"),
        (["set", "requests=5/hour"], "of which function?"),
        (["set", "requests=5/hour", "--namespace", "--account", "admin"], "not both"),
        (["delete", "limited", "requests"], "'' is no period"),
    ],
)
def test_what_was_typed_wrongly_says_what_is_right(
    server: Live, words: list[str], detail: str
) -> None:
    assert detail in server.refused(64, "functions", "quota", *words)


@pytest.mark.parametrize(
    ("name", "file", "code"),
    [("world", "index.js", WORLD), ("modern", "index.ts", MODULE), ("snake", "main.py", PYTHON)],
)
def test_a_replay_is_the_same_each_time(server: Live, name: str, file: str, code: str) -> None:
    deploy(server, name, code, file)
    words = ["functions", "invoke", name, "--path", "/a?b=c", "--seed", "S", "--step", "5ms"]
    at = ["--clock", "2026-01-01T00:00:00Z"]
    first = server.micro(*words, *at).out
    assert server.micro(*words, *at).out == first
    assert "2026-01-01T01:00:00" in first or "17672292" in first
    assert server.micro(*words, "--clock", "0").out != first
    assert server.micro(*words, *at, "--seed", "T").out != first


def test_what_is_asked_of_a_replay_wrongly(server: Live) -> None:
    bad = {
        "is no time such as 2026-01-01T00:00:00Z": ["--clock", "yesterday"],
        "a time from the year 1 to the year 9999": ["--clock", "999999999999999"],
        "is no amount": ["--step", "far"],
        "step: from 0 to 24 hours": ["--step", "25h"],
        "seed: at most 1,000 characters": ["--seed", "s" * 1001],
    }
    deploy(server, "asked", EVENTS)
    for detail, flags in bad.items():
        assert detail in server.refused(64, "functions", "invoke", "asked", *flags)
