"""Attacks that end workers, on a whole server under load: the guilty alone pays for each.

The attacks are those of ``tests/functions/attacks``; here are those that one engine or another
cannot end by itself, at each level of isolation, and those that want a whole server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import psutil
import pytest

from ..functions.attacks.corpus import ATTACKS, PATCHES, Attack
from ..functions.web import Web
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

    def workers(self, owner: str) -> set[int]:
        """The processes of an owner's workers."""
        found = set()
        for child in psutil.Process(self.pid("zygote")).children():
            try:
                if f"/{owner}" in " ".join([child.name(), *child.cmdline()]):
                    found.add(child.pid)
            except psutil.Error:
                continue
        return found

    def all_workers(self) -> set[int]:
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
        self.alices = site.all_workers()
        folder = site.folder("greeter", program("greeter"))
        site.micro("run", str(folder))
        until(lambda: site.web.get("/greeter/call?name=x").status_code == 200)
        paths = ("/alice-quickjs", "/alice-deno", "/greeter/call?name=x")
        self.loads = [stack.enter_context(Load(site.url, path, threads=1)) for path in paths]
        self.pids = {name: pid for name, pid in site.info.pids.items()}

    def unharmed(self) -> None:
        """See that nobody has lost anything, and that all processes are those from before."""
        for load in self.loads:
            load.more(3)
            assert load.errors == [], load.told()
        assert self.alices <= self.site.all_workers(), "workers of another owner have ended"
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
def mates(site: Site, others: Others) -> Iterator[dict[str, Load]]:
    """A neighbour of the same owner, in the worker that is attacked, under load."""
    with ExitStack() as stack:
        found = {}
        for level in LEVELS:
            engine = "deno" if level.startswith("deno") else "quickjs"
            site.deploy(f"mallory-{level}", f"mate-{level}", MATES[engine], engine=engine)
            assert site.web.get(f"/mate-{level}").text == "good"
            found[level] = Load(site.url, f"/mate-{level}", threads=1)
        yield found


@pytest.mark.parametrize(("attack", "level"), WAYS)
def test_the_guilty_alone_pays(
    site: Site, others: Others, mates: dict[str, Load], attack: Attack, level: str
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
        limits=LIMITS | ({"cpu": 0.1} if suffix == "py" else {}),
        **({"isolation": isolation} if isolation != "isolate" else {}),
    )
    with Load(site.url, f"/mate-{level}", threads=1) as mate:
        answer = site.web.get(f"/{name}/try")
        mate.more(5)
    said = answer.json()["Id"].removeprefix("functions.")
    assert (answer.status_code, said in attack.end_on(engine_of(level)).split("|")) == (503, True), (
        answer.text
    )
    assert mate.errors == [], mate.told()
    others.unharmed()
