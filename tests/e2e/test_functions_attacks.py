"""Attacks that end workers, on a whole server under load: the guilty alone pays for each.

The attacks are those of ``tests/functions/attacks``; here are those that one engine or another
cannot end by itself, at each level of isolation, and those that want a whole server.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psutil
import pytest

from ..functions.attacks.corpus import ATTACKS, Attack
from .live import Live, client, program, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMITS = {"cpu": 0.05, "heap": 16 * 1024 * 1024}

LEVELS = {
    "quickjs": ("quickjs", "isolate"),
    "quickjs-process": ("quickjs", "process"),
    "wasm": ("quickjs", "wasm"),
    "deno": ("deno", "isolate"),
    "deno-process": ("deno", "process"),
    "monty": ("monty", "isolate"),
}
"""Engine and isolation by what they are called here."""

MATES = {
    "quickjs": "async function handler() { await null; return 'good' }",
    "deno": "export default { async fetch() { await null; return new Response('good') } }",
}


def engine_of(level: str) -> str:
    """What the corpus calls the engine of a level."""
    return "wasm" if level == "wasm" else LEVELS[level][0]


class Site(Live):
    """A server with functions of several owners, and a service."""

    owners: dict[str, httpx.Client]

    def deploy(self, owner: str, name: str, text: str, **more: object) -> None:
        """Deploy a function as one of the owners."""
        file = more.pop("file", "main.js")
        draft = {"name": name, "files": {file: text}, **more}
        answer = self.owners[owner].post("/functions/deploy", json=draft)
        assert answer.status_code == 200, answer.text

    def owner(self, name: str) -> None:
        """Make an account."""
        made = self.admin.post("/auth/generate", json={"id": name, "secret": "secret-of-mine"})
        assert made.status_code == 200, made.text
        said = self.admin.post("/auth/token", json={"id": name, "secret": "secret-of-mine"}).json()
        self.owners[name] = client(self.url)
        self.owners[name].headers["Authorization"] = f"Bearer {said['token']['access_token']}"

    def workers(self) -> set[int]:
        """The processes of all workers."""
        return {child.pid for child in psutil.Process(self.pid("zygote")).children()}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Site("--gateways=2")
    server.owners = {}
    try:
        server.start()
        for name in ("alice", *(f"mallory-{level}" for level in LEVELS)):
            server.owner(name)
        for engine, code in MATES.items():
            server.deploy("alice", f"alice-{engine}", code, engine=engine)
            assert server.web.get(f"/alice-{engine}").text == "good"
        yield server
    finally:
        for owner in server.owners.values():
            owner.close()
        server.close()


class Others:
    """What goes on beside all attacks: another owner's functions, and a service."""

    def __init__(self, site: Site, stack: ExitStack) -> None:
        self.site = site
        self.alices = site.workers()
        folder = site.folder("greeter", program("greeter"))
        site.micro("run", str(folder))
        until(lambda: site.web.get("/greeter/call?name=x").status_code == 200)
        paths = ("/alice-quickjs", "/alice-deno", "/greeter/call?name=x")
        self.loads = [stack.enter_context(Load(site.url, path, threads=1)) for path in paths]
        self.pids = dict(site.info.pids)

    def unharmed(self) -> None:
        """See that nobody has lost anything, and that all processes are those from before."""
        for load in self.loads:
            load.more(3)
            assert load.errors == [], load.told()
        assert self.alices <= self.site.workers(), "workers of another owner have ended"
        assert self.site.info.pids == self.pids, "a process of the platform has ended"


@pytest.fixture(scope="module")
def others(site: Site) -> Iterator[Others]:
    with ExitStack() as stack:
        yield Others(site, stack)
    logs = {file.name: file.read_text(errors="replace") for file in site.home.logs.glob("*.log")}
    assert [name for name, text in logs.items() if "Traceback" in text] == []


WAYS = [
    pytest.param(attack, level, id=f"{attack.name}-{level}")
    for level in LEVELS
    for attack in ATTACKS
    if engine_of(level) in attack.engines
    and (
        attack.kills_on(engine_of(level))
        or (attack.name in ("loop", "texts", "recursion") and level != "deno-process")
    )
    # One each is enough where all differs by nothing but where the process is.
    and (level != "deno-process" or attack.name in ("loop", "texts"))
]


@pytest.fixture(scope="module")
def mates(site: Site) -> None:
    """A neighbour of each who attacks: of the same owner, in the same worker where there is one."""
    for level in LEVELS:
        engine = "deno" if level.startswith("deno") else "quickjs"
        site.deploy(f"mallory-{level}", f"mate-{level}", MATES[engine], engine=engine)
        assert site.web.get(f"/mate-{level}").text == "good"


def _processor(attack: Attack, engine: str, suffix: str) -> float:
    """Seconds of it: of two limits that an attack runs into, the one that is meant comes first."""
    if attack.fills_on(engine):
        return 5.0
    return 0.1 if suffix == "py" else 0.05


@pytest.mark.parametrize(("attack", "level"), WAYS)
def test_the_guilty_alone_pays(
    site: Site, others: Others, mates: None, attack: Attack, level: str
) -> None:
    engine, isolation = LEVELS[level]
    code, _, language = attack.source(engine_of(level))
    name = f"{attack.name}-{level}"
    suffix = "py" if language == "python" else "js"
    site.deploy(
        f"mallory-{level}",
        name,
        code,
        file=f"main.{suffix}",
        engine=engine,
        limits=LIMITS | {"cpu": _processor(attack, engine_of(level), suffix)},
        **({"isolation": isolation} if isolation != "isolate" else {}),
    )
    with Load(site.url, f"/mate-{level}", threads=1) as mate:
        answer = site.web.get(f"/{name}/try")
        mate.more(5)
    said = answer.json()["Id"].removeprefix("functions.")
    assert (answer.status_code, said in attack.end_on(engine_of(level)).split("|")) == (
        503,
        True,
    ), answer.text
    assert mate.errors == [], mate.told()
    others.unharmed()


@pytest.mark.parametrize("level", ["quickjs", "quickjs-process", "wasm", "deno"])
def test_a_crash_in_the_midst_of_a_request(
    site: Site, others: Others, mates: None, level: str
) -> None:
    engine, isolation = LEVELS[level]
    owner, name = f"mallory-{level}", f"crash-{level}"
    code = "function handler() { for (;;); }"
    level_of = {} if isolation == "isolate" else {"isolation": isolation}
    site.deploy(owner, name, code, engine=engine, limits={"cpu": 8}, **level_of)
    answers: list[httpx.Response] = []

    def ask() -> None:
        with client(site.url) as web:
            answers.append(web.get(f"/{name}"))

    with Load(site.url, f"/mate-{level}", threads=1) as mate:
        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive():
            # It is safe to repeat, so that a second worker may have to go the same way.
            for pid in _at_work(site.workers() - others.alices):
                os.kill(pid, signal.SIGSEGV)
        asking.join()
        mate.more(5)
    (answer,) = answers
    assert (answer.status_code, answer.json()["Id"]) == (503, "functions.lost")
    assert mate.errors == [], mate.told()
    others.unharmed()


def _at_work(pids: set[int]) -> list[int]:
    """Those that do nothing but compute."""
    before = {pid: _used(pid) for pid in pids}
    time.sleep(0.1)
    return [pid for pid in pids if _used(pid) - before[pid] > 0.02]


def _used(pid: int) -> float:
    try:
        return float(psutil.Process(pid).cpu_times().user)
    except psutil.Error:
        return 0.0


STREAM = """
async function* parts() { for (;;) { await null; yield 'x'.repeat(10000) } }
async function handler({ path }) {
  if (path === 'ok') return 'fine'
  return new Response(parts())
}
"""


@pytest.mark.parametrize("level", ["quickjs", "wasm", "deno"])
def test_an_endless_stream_ends_with_its_reader(
    site: Site, others: Others, mates: None, level: str
) -> None:
    engine, isolation = LEVELS[level]
    owner, name = f"mallory-{level}", f"stream-{level}"
    level_of = {} if isolation == "isolate" else {"isolation": isolation}
    site.deploy(owner, name, STREAM, engine=engine, limits={"cpu": 0.2}, **level_of)
    taken = 0
    with Load(site.url, f"/mate-{level}", threads=1) as mate:
        with client(site.url) as web, web.stream("GET", f"/{name}/try") as answer:
            for part in answer.iter_raw():
                taken += len(part)
                if taken > 2_000_000:
                    break
        mate.more(5)
        assert site.web.get(f"/{name}/ok").text == "fine"
    assert mate.errors == [], mate.told()
    until(lambda: not _at_work(site.workers() - others.alices))
    others.unharmed()


FORMS = [
    *("http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/"),
    *("http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/"),
    *("http://0.0.0.0:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://127.1:{port}/"),
    *("http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "file:///etc/passwd"),
    *("http://user:word@127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/", "http://[fe80::1]/"),
]

FETCHES = """
async function handler(request) {
  const urls = await request.json()
  const got = []
  for (const url of urls) {
    try { await (await fetch(url)).text(); got.push(url) } catch {}
  }
  return got
}
"""


class Private(BaseHTTPRequestHandler):
    """A server that nobody's functions may reach; under ``/to/…`` it leads elsewhere."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        leads = self.path.startswith("/to/")
        self.send_response(302 if leads else 200)
        if leads:
            self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def private() -> Iterator[tuple[int, list[str]]]:
    """The port of such a server, and what it has been asked."""
    asked: list[str] = []
    handler = type("Handler", (Private,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("level", ["quickjs", "wasm", "deno"])
def test_nothing_private_is_fetched(site: Site, others: Others, level: str) -> None:
    engine, isolation = LEVELS[level]
    owner, name = f"mallory-{level}", f"fetches-{level}"
    level_of = {} if isolation == "isolate" else {"isolation": isolation}
    with private() as (hidden, asked), private() as (open_, led):
        site.deploy(
            owner,
            name,
            FETCHES,
            engine=engine,
            limits={"cpu": 1},
            hosts=[f"127.0.0.1:{open_}"],
            **level_of,
        )
        door = f"http://127.0.0.1:{open_}/"
        urls = [form.format(port=hidden) for form in FORMS]
        urls += [f"{door}to/{url}" for url in urls if url.startswith("http")]
        answer = site.web.post(f"/{name}", json=[door, *urls])
        assert answer.json() == [door], answer.text
        assert asked == []
        assert len(led) > 10
    others.unharmed()
