"""Sub-requests of real workers, by a real host, through the egress that is a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from microcosmos.auth.access import Access
from microcosmos.auth.client import follow_policy
from microcosmos.base import errors
from microcosmos.base.tasks import background
from microcosmos.functions.egress.told import KEY, OWN
from microcosmos.functions.host.host import Host
from microcosmos.functions.interface import SecretUse
from microcosmos.functions.placeholders import PATTERN

from ...events.engine import Engine
from ..web import Seen, said, web
from ..zygotes import until
from .hosting import PROOF, World, lines, script, world

FETCHING = """
async function handler(request, env) {
  const { url, header, value, body } = await request.json()
  const sent = value ?? `Bearer ${env.KEY}`
  console.log('KEY is ' + env.KEY)
  const about = { headers: { [header ?? 'authorization']: sent } }
  if (body) Object.assign(about, { method: 'POST', body: env.KEY })
  const answer = await fetch(url, about)
  return { seen: env.KEY, status: answer.status, text: await answer.text() }
}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


def start(here: World, own: str = "") -> subprocess.Popen[bytes]:
    environ = {**os.environ, "MICRO_HOME": str(here.home.path), KEY: PROOF, OWN: own}
    argv = [sys.executable, "-m", "microcosmos.functions.egress"]
    with (here.home.logs / "egress.log").open("ab") as log:
        return subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stderr=log)


@contextlib.asynccontextmanager
async def hosting(here: World) -> AsyncIterator[list[subprocess.Popen[bytes]]]:
    """A host, and an egress; whoever kills one puts the next into the list."""
    processes, access = [start(here)], Access()
    try:
        async with here.joined("micro") as platform:
            follow = follow_policy(platform.client, access, "", platform.header)
            async with (
                background(follow, "policy"),
                Host(here.home, platform, here.joined, access) as host,
            ):
                await host.known.settle(5)
                yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def call(here: World, name: str, **asked: Any) -> Any:
    await until(lambda: here.platform.table.knows(name))
    endpoint = f"{name.capitalize()}.Call"
    return json.loads(await here.client.call(name, endpoint, json.dumps(asked).encode()))


async def test_a_secret_is_used_by_code_that_cannot_read_it(engine: Engine) -> None:
    async with (
        web(said(b"charged")) as server,
        web(said(b"evil")) as evil,
        world(engine) as here,
        hosting(here),
    ):
        admin = await here.admin()
        await admin.deploy(
            script(
                "charge",
                FETCHING,
                hosts=[server.host, evil.host],
                secrets={"KEY": "sk_live_1"},
                secret_uses={"KEY": [SecretUse(server.host)]},
            )
        )
        got = await call(here, "charge", url=server.url)
        assert (got["status"], got["text"]) == (200, "charged")
        assert PATTERN.fullmatch(got["seen"])
        assert server.seen[0].headers["authorization"] == "Bearer sk_live_1"
        await call(here, "charge", url=server.url, value="plain", body=True)
        assert server.seen[1].body.decode() == got["seen"]
        for asked in (
            {"url": evil.url},
            {"url": server.url, "header": "x-key"},
            {"url": f"{server.url}/?k={got['seen']}"},
        ):
            with pytest.raises(errors.Error):
                await call(here, "charge", **asked)
        assert (len(server.seen), evil.connections) == (2, 0)
        # What the host says comes before what the worker tells.
        await until(lambda: "is in the URL" in lines(here.home, "charge"))
        await until(lambda: f"KEY is {got['seen']}" in lines(here.home, "charge"))
        log = lines(here.home, "charge")
        assert f"not for authorization to {evil.url}" in log
        # A new value is filled in at once.
        await admin.deploy(
            script(
                "charge",
                FETCHING,
                hosts=[server.host],
                secrets={"KEY": "sk_live_2"},
                secret_uses={"KEY": [SecretUse(server.host)]},
            )
        )

        async def renewed() -> None:
            while server.seen[-1].headers["authorization"] != "Bearer sk_live_2":
                assert (await call(here, "charge", url=server.url))["seen"] == got["seen"]

        await asyncio.wait_for(renewed(), 5)
        decisions = (here.home.logs / "egress.log").read_text()
        assert "allowed micro/charge v1: GET" in decisions
        assert "refused micro/charge v1: GET" in decisions
        for text in (decisions, lines(here.home, "charge"), (await admin.get("charge")).name):
            assert "sk_live" not in text


async def test_an_egress_that_dies_takes_only_what_was_under_way(engine: Engine) -> None:
    begun, hold = asyncio.Event(), asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/never":
            begun.set()
            await hold.wait()
        await said(b"ok")(seen, writer)

    async with web(answer) as server, world(engine) as here, hosting(here) as processes:
        admin = await here.admin()
        await admin.deploy(
            script("fetching", FETCHING, hosts=[server.host], env={"KEY": "no secret"})
        )
        await admin.deploy(script("other"))
        assert (await call(here, "fetching", url=server.url))["text"] == "ok"
        waiting = asyncio.create_task(call(here, "fetching", url=f"{server.url}/never"))
        await begun.wait()
        processes[0].send_signal(signal.SIGKILL)
        with pytest.raises(errors.Error):
            await waiting
        hold.set()
        await until(lambda: "the process that fetches has ended" in lines(here.home, "fetching"))
        processes[0].wait()
        # It is away: who fetches waits, and others notice nothing.
        late = asyncio.create_task(call(here, "fetching", url=server.url))
        assert (await call(here, "other", a=1))["got"] == {"a": 1}
        assert not late.done()
        processes.append(start(here))
        assert (await late)["text"] == "ok"
