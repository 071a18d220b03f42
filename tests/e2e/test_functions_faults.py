"""Deploys, `kill -9` of everything there is, and functions that misbehave, under constant load."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from .live import NO_AUTHORITIES, Live, client, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger("tests.e2e")

SWITCHED = 0.5
"""Seconds after a deploy from which on nobody may see the version before; we promise 0.1."""

SLOW = """
let begun = 0
async function handler(request) {
  if (request.method === 'GET') return String(begun)
  begun++
  await new Promise((done) => setTimeout(done, 20000))
  return 'done'
}
"""

READER = """
async function handler(request, env) {
  return String(await env.store.get('word'))
}
"""

READER_PYTHON = """
def handler(request, env):
    return str(env.store.get('word'))
"""

MODULE = "export default { fetch(request: Request): Response { return new Response('%s') } }"


class Site(Live):
    """A server with functions."""

    def deploy(self, name: str, text: str, suffix: str = "js", **more: object) -> None:
        """Deploy a function, as admin."""
        draft = {"name": name, "files": {f"main.{suffix}": text}, **more}
        self.asked("deploy", **draft)

    def asked(self, verb: str, **said: object) -> httpx.Response:
        """Use the control plane, as admin."""
        answer = self.admin.post(f"/functions/{verb}", json=said)
        assert answer.status_code == 200, answer.text
        return answer

    def requests(self, name: str) -> int:
        """How many have been counted."""
        return int(self.asked("consumption", name=name).json().get("requests", 0))

    def workers(self) -> list[int]:
        """Those that the zygote has made."""
        return [one.pid for one in psutil.Process(self.pid("zygote")).children()]

    def kill_workers(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def kill_named(self, name: str) -> None:
        """`kill -9` of one of the server's processes, or of the workers, and its return."""
        if name == "workers":
            self.kill_workers()
        else:
            self.back(name, self.kill_child(name))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Site("--gateways=2")
    try:
        server.start()
        server.deploy("steady", "`steady`")
        yield server
    finally:
        server.close()


@pytest.fixture
def another() -> Iterator[Callable[[], Site]]:
    made: list[Site] = []

    def make() -> Site:
        made.append(Site("--gateways=2"))
        return made[-1]

    yield make
    for server in made:
        server.close()


# Deploys.


@pytest.mark.parametrize(
    ("name", "code", "suffix", "count"),
    [("often", "`v%s`", "js", 100), ("modern", MODULE.replace("%s", "v%s"), "ts", 12)],
)
def test_no_deploy_loses_a_request(
    site: Site, name: str, code: str, suffix: str, count: int
) -> None:
    site.deploy(name, code % 1, suffix)
    # When each version was asked for, and when it was said to be live.
    asked, live = [0.0], [0.0]
    with Load(site.url, f"/{name}") as load:
        for number in range(2, count + 1):
            asked.append(time.monotonic())
            site.deploy(name, code % number, suffix)
            live.append(time.monotonic())
        load.more(30)
    assert load.errors == [], load.told()
    lag = 0.0
    for answer in load.journal:
        number = int(answer.text.removeprefix("v"))
        # None before it was asked for, and none for long after the next was live.
        assert 1 <= number <= count
        assert asked[number - 1] <= answer.ended, answer
        if number < count:
            lag = max(lag, answer.began - live[number])
    assert lag < SWITCHED, lag
    assert load.journal[-1].text == f"v{count}"
    log.info("%d deploys of %s: the last old answer began %.4f s late", count, name, lag)


def test_every_gateway_knows_of_a_change_once_it_is_said_to_be_done(site: Site) -> None:
    def answers() -> set[tuple[int, str]]:
        """On connections of their own: not all come to the same gateway."""
        plainly = {"timeout": 60, "trust_env": False, "verify": NO_AUTHORITIES}
        answers = [httpx.get(f"{site.url}/{name}", **plainly) for _ in range(6)]
        return {(answer.status_code, answer.text) for answer in answers}

    for number in range(15):
        name = f"sudden{number}"
        code = "async function handler() { return '%s' }"
        site.deploy(name, code % "new")
        assert answers() == {(200, "new")}
        site.deploy(name, code % "newer")
        assert answers() == {(200, "newer")}
        site.asked("rollback", name=name)
        assert answers() == {(200, "new")}
        site.asked("delete", name=name)
        assert {status for status, _ in answers()} == {404}


def test_neither_a_split_nor_a_rollback_loses_a_request(site: Site) -> None:
    site.deploy("halves", "`old`")
    site.deploy("halves", "`new`")
    with Load(site.url, "/halves") as load:
        site.asked("split", name="halves", shares={"1": 90, "2": 10})
        divided = len(load.journal)
        load.more(400)
        told = [answer.text for answer in load.journal[divided + 50 :]]
        assert 0.02 < told.count("new") / len(told) < 0.25
        site.asked("rollback", name="halves", number=1)
        until(lambda: _last(load, 50) == {"old"})
        load.more(20)
    assert load.errors == [], load.told()
    assert {answer.text for answer in load.journal} == {"old", "new"}


def _last(load: Load, count: int) -> set[str]:
    return {answer.text for answer in load.journal[-count:]}


# Deaths. Those of the host that functions have to wait for come first: the more often it dies, the
# longer the supervisor waits before it starts it again.


def test_bindings_wait_for_the_next_host(site: Site) -> None:
    site.deploy("reads", READER, grants=["store"])
    site.deploy("reads-deno", READER, engine="deno", grants=["store"])
    site.deploy("reads-python", READER_PYTHON, "py", grants=["store"])
    loads = [Load(site.url, path, threads=1) for path in ("/reads", "/reads-deno", "/reads-python")]
    with loads[0], loads[1], loads[2]:
        site.kill_named("functions")
        for load in loads:
            load.more(30)
    for load in loads:
        assert load.errors == [], load.told()
        assert _last(load, len(load.journal)) <= {"null", "None"}


LATER = """
const later = async (env) => {
  await new Promise((done) => setTimeout(done, 600))
  await env.store.set('later', 'done')
}
const answer = (path, env, wait) => {
  if (path === 'look') return env.store.get('later')
  wait(later(env))
  return 'begun'
}
"""
LATERS = {
    "quickjs": "function handler({ path }, env) { return answer(path, env, () => {}) }",
    "deno": "export default { async fetch(request, env, ctx) {"
    " const path = new URL(request.url).pathname.split('/')[2];"
    " return new Response(await answer(path, env, (work) => ctx.waitUntil(work))) } }",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_goes_on_after_an_answer_outlives_the_host(site: Site, number: signal.Signals) -> None:
    names = {engine: f"later-{engine}-{number.name.lower()}" for engine in LATERS}
    for engine, name in names.items():
        site.deploy(name, LATER + LATERS[engine], grants=["store"])
        assert site.web.get(f"/{name}/go").text == "begun"
    with Load(site.url, "/steady") as load:
        before = site.pid("functions")
        os.kill(before, number)
        site.back("functions", before)
        for name in names.values():
            until(lambda name=name: site.web.get(f"/{name}/look").text == "done")  # type: ignore[misc]
    assert load.errors == [], load.told()


@pytest.mark.parametrize("name", ["workers", "zygote", "egress", "core"])
def test_what_is_killed_is_missed_by_no_get(site: Site, name: str) -> None:
    assert site.web.get("/steady").text == "steady"
    with Load(site.url, "/steady") as load:
        site.kill_named(name)
        load.more(60)
    assert load.errors == [], load.told()
    log.info("%s: %s", name, load.told())
    # And what nobody has run yet runs as well: who deploys is told to try again at most.
    after = {"name": f"after-{name}", "files": {"main.js": "`here`"}}
    until(lambda: site.admin.post("/functions/deploy", json=after).status_code == 200)
    until(lambda: all(site.web.get(f"/after-{name}").text == "here" for _ in range(8)))


def test_a_post_that_dies_with_its_worker_is_said_to_be_lost(site: Site) -> None:
    site.deploy("slow", SLOW)
    answers: list[httpx.Response] = []

    def post() -> None:
        with client(site.url) as web:
            answers.append(web.post("/slow"))

    posting = threading.Thread(target=post)
    posting.start()
    until(lambda: site.web.get("/slow").text == "1")
    site.kill_workers()
    posting.join()
    (answer,) = answers
    assert (answer.status_code, answer.json()["Id"]) == (503, "functions.lost")
    assert site.web.get("/slow").text == "0"
    # No worker can say so: the gateway counts it.
    until(lambda: site.asked("consumption", name="slow").json()["failures"] == {"lost": 1})


def test_counts_are_exact_whoever_dies_meanwhile(site: Site) -> None:
    site.deploy("tally", "`x`")
    with Load(site.url, "/tally") as load:
        for name in ("functions", "core"):
            site.kill_named(name)
            load.more(40)
    assert load.errors == [], load.told()
    until(lambda: site.admin.post("/functions/list", json={}).status_code == 200)
    until(lambda: site.requests("tally") >= len(load.journal))
    assert site.requests("tally") == len(load.journal)
    for by in ("hour", "day", "version"):
        found = site.asked("consumption", name="tally", by=by).json()
        assert sum(row["counts"]["requests"] for row in found["rows"]) == len(load.journal)


def test_a_group_goes_with_its_function_though_no_host_sees_it(site: Site) -> None:
    def groups() -> str:
        return site.admin.post("/events/groups/list", json={"topic": ">"}).text

    site.deploy("consuming", "function consume() {}", on=["events:orders"])
    until(lambda: "consuming" in groups())
    before = site.pid("functions")
    os.kill(before, signal.SIGSTOP)
    site.asked("delete", name="consuming")
    assert "consuming" in groups()
    os.kill(before, signal.SIGKILL)
    until(lambda: "consuming" not in groups())


def test_all_of_them_in_any_order(site: Site) -> None:
    order = ["workers", "zygote", "egress", "functions", "core", "gateway-1", "nats"]
    random.Random(7).shuffle(order)
    with Load(site.url, "/steady") as load:
        for name in order:
            site.kill_named(name)
            load.more(10)
        load.more(50)
    # A gateway takes its connections along, and nothing else of all this is seen.
    assert {answer.status for answer in load.errors} <= {0}, load.told()
    assert len(load.errors) <= 4, load.told()


def test_a_server_that_is_killed_comes_back_with_all_of_it(another: Callable[[], Site]) -> None:
    site = another()
    site.start()
    for number in (1, 2, 3):
        site.deploy("kept", f"`v{number}`")
    site.asked("split", name="kept", shares={"2": 50, "3": 50})
    for _ in range(40):
        assert site.web.get("/kept").text in ("v2", "v3")
    until(lambda: site.requests("kept") == 40)
    before = site.asked("history", name="kept").json()
    site.kill()
    site.start()
    assert site.asked("history", name="kept").json() == before
    assert site.asked("verify", name="kept").json().get("problems", []) == []
    assert site.requests("kept") == 40
    for _ in range(10):
        assert site.web.get("/kept").text in ("v2", "v3")
    # What was not told yet is told when the server stops, by the workers of each engine.
    site.deploy("module", MODULE % "x", "ts")
    site.deploy("python", "def handler(request, env):\n    return 'x'\n", "py")
    for name in ("module", "python"):
        assert {site.web.get(f"/{name}").text for _ in range(25)} == {"x"}
    assert site.stop() == 0
    site.start()
    assert [site.requests(name) for name in ("kept", "module", "python")] == [50, 25, 25]


# Misbehaviour.

# Memory takes its time to fill: on a slow machine there may be none left of the processor's first.
FULL = ("functions.limit.memory", "functions.limit.cpu")

BAD = {
    "loops": ("function handler() { for (;;); }", "functions.limit.cpu"),
    "recurses": ("function handler() { return handler() + 1 }", "functions.limit.stack"),
    "allocates": (
        "function handler() { const all = []; for (;;) all.push(new Uint8Array(1 << 20)) }",
        FULL,
    ),
    "promises": (
        "function handler() { const more = () => Promise.resolve().then(more); return more() }",
        "functions.limit.cpu",
    ),
    "timers": (
        "function handler() { for (;;) setTimeout(() => {}, 60000) }",
        # The processor's limit or that of their number, which throws: whichever comes first.
        ("functions.limit.", "functions.exception"),
    ),
    "logs": ("function handler() { for (;;) console.log('x'.repeat(1000)) }", "functions.limit."),
    "hoards": (
        "async function handler() { const all = []; for (;;) { for (let i = 0; i < 10; i++)"
        " all.push(new Array(10000).fill(i)); await new Promise((done) => setTimeout(done, 0)) } }",
        FULL,
    ),
    "regexp": (
        "function handler() { return String(/^(a+)+$/.test('a'.repeat(60) + 'b')) }",
        "functions.limit.cpu",
    ),
}


# There an exception says that there is no more room on the stack, or for timers. A worker that its
# engine or the host has to end takes along what runs in it, and nobody knows whose fault that was.
ON_DENO = {
    "recurses": ("functions.limit.stack",),
    "timers": ("functions.exception",),
    "allocates": (*FULL, "functions.lost"),
    "hoards": (*FULL, "functions.lost"),
    "regexp": ("functions.limit.cpu", "functions.lost"),
}


@pytest.mark.parametrize("engine", ["quickjs", "deno"])
def test_one_that_misbehaves_is_ended_and_harms_no_neighbour(site: Site, engine: str) -> None:
    with _other(site, f"mallory-{engine}") as other:
        _misbehave(site, other, engine)


def _misbehave(site: Site, other: httpx.Client, engine: str) -> None:
    for name, (code, _) in BAD.items():
        files = {"main.js": code}
        draft = {"name": f"{engine}-{name}", "files": files, "engine": engine}
        answer = other.post("/functions/deploy", json=draft)
        assert answer.status_code == 200, answer.text
    draft = {"name": f"{engine}-good", "files": {"main.js": "`good`"}}
    assert other.post("/functions/deploy", json=draft).status_code == 200
    ended = {}
    with Load(site.url, "/steady") as load, Load(site.url, f"/{engine}-good", threads=1) as mate:
        for name in BAD:
            answer = site.web.get(f"/{engine}-{name}")
            ended[name] = (answer.status_code, answer.json().get("Id", ""))
            load.more(5)
        mate.more(20)
    assert load.errors == [], load.told()
    assert mate.errors == [], mate.told()
    log.info("%s: %s; slowest %.3f s", engine, ended, load.slowest)
    for name, (_, ids) in BAD.items():
        code, said = ended[name]
        assert said.startswith(ON_DENO.get(name, ids) if engine == "deno" else ids), ended
        assert code == (500 if said == "functions.exception" else 503), ended


def _other(site: Site, name: str) -> httpx.Client:
    """A client with an account of its own."""
    made = site.admin.post("/auth/generate", json={"id": name, "secret": "secret-of-mine"})
    assert made.status_code == 200, made.text
    token = site.admin.post("/auth/token", json={"id": name, "secret": "secret-of-mine"}).json()[
        "token"
    ]["access_token"]
    web = client(site.url)
    web.headers["Authorization"] = f"Bearer {token}"
    return web
