"""Any tool that speaks the NATS services protocol (ADR-32) sees our services."""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client as NatsClient

from microcosmos.base import errors
from microcosmos.rpc import Endpoint, Hosted, Server
from microcosmos.rpc import nats as by_nats
from microcosmos.rpc.handler import endpoint

from .conformance import Failing, call

# Pinned: later transports need Node 22, and npm has no later client of services.
PACKAGES = ["@nats-io/services@3.0.0-25", "@nats-io/transport-node@3.0.0"]
NAME = re.compile(r"[A-Za-z0-9_-]+")


async def _echo(body: bytes) -> bytes:
    return body


def _server(name: str = "helloworld", version: str = "latest") -> Server:
    server = Server()
    endpoints = [endpoint(call, name), Failing(errors.Conflict(name, "taken")).endpoint]
    server.add(Hosted(name, endpoints, version=version, metadata={"owner": "jo"}))
    return server


async def _ask(nc: NatsClient, subject: str) -> Any:
    return json.loads((await nc.request(subject, timeout=60)).data)


async def test_a_ping_is_answered_by_who_is_there(nats_url: str) -> None:
    async with (
        by_nats.connect(nats_url) as nc,
        by_nats.serve(nc, _server("v1.foo", "1.2.3"), node="n1"),
    ):
        expected = {
            "type": "io.nats.micro.v1.ping_response",
            "name": "v1-foo",
            "id": "n1",
            "version": "1.2.3",
            "metadata": {"owner": "jo", "micro.service": "v1.foo", "micro.version": "1.2.3"},
        }
        for subject in ("$SRV.PING", "$SRV.PING.v1-foo", "$SRV.PING.v1-foo.n1"):
            assert await _ask(nc, subject) == expected


@pytest.mark.parametrize("subject", ["$SRV.PING.other", "$SRV.PING.helloworld.other"])
async def test_a_ping_for_someone_else_is_not_answered(nats_url: str, subject: str) -> None:
    async with by_nats.connect(nats_url) as nc, by_nats.serve(nc, _server(), node="n1"):
        with pytest.raises(nats.errors.NoRespondersError):
            await nc.request(subject, timeout=60)


async def test_info_tells_the_endpoints_with_their_subjects_and_shapes(nats_url: str) -> None:
    async with by_nats.connect(nats_url) as nc, by_nats.serve(nc, _server(), node="n1"):
        info = await _ask(nc, "$SRV.INFO.helloworld.n1")
        assert info["type"] == "io.nats.micro.v1.info_response"
        assert (info["name"], info["version"]) == ("helloworld", "0.0.0-latest")
        assert info["description"] == ""
        first, second = info["endpoints"]
        assert (first["name"], second["name"]) == ("Helloworld_Call", "Demo_Fail")
        assert first["subject"] == "rpc.helloworld.Helloworld.Call"
        assert first["queue_group"] == "q"
        assert first["metadata"]["micro.endpoint"] == "Helloworld.Call"
        assert json.loads(first["metadata"]["micro.request"]) == {
            "name": "CallRequest",
            "type": "CallRequest",
            "values": [{"name": "name", "type": "string", "values": []}],
        }
        assert json.loads(first["metadata"]["micro.response"])["values"][0]["name"] == "msg"
        answer = await nc.request(first["subject"], b'{"name":"Jo"}', timeout=60)
        assert answer.data == b'{"msg":"Hello Jo"}'


async def test_stats_count_requests_and_errors(nats_url: str) -> None:
    async with by_nats.connect(nats_url) as nc, by_nats.serve(nc, _server(), node="n1"):
        for _ in range(3):
            await nc.request("rpc.helloworld.Helloworld.Call", timeout=60)
        await nc.request("rpc.helloworld.Demo.Fail", timeout=60)
        stats = await _ask(nc, "$SRV.STATS.helloworld")
        assert stats["type"] == "io.nats.micro.v1.stats_response"
        started = datetime.datetime.fromisoformat(stats["started"])
        age = datetime.datetime.now(datetime.UTC) - started
        assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)
        assert stats["started"].endswith("Z")
        called, failed = stats["endpoints"]
        assert (called["num_requests"], called["num_errors"]) == (3, 0)
        assert called["last_error"] == ""
        assert (failed["num_requests"], failed["num_errors"]) == (1, 1)
        assert failed["last_error"] == "helloworld: taken"
        assert called["processing_time"] >= called["average_processing_time"] * 3 > 0
        assert all(isinstance(called[key], int) for key in called if key.endswith("time"))


@pytest.mark.parametrize(
    ("name", "version", "announced"),
    [
        ("v1.foo", "latest", ("v1-foo", "0.0.0-latest")),
        ("my_service", "main", ("my_service", "0.0.0-main")),
        ("a.b.c", "v1.0", ("a-b-c", "0.0.0-v1-0")),
        ("2048", "2.0.0", ("2048", "2.0.0")),
    ],
)
async def test_names_are_announced_in_the_protocols_alphabet(
    nats_url: str, name: str, version: str, announced: tuple[str, str]
) -> None:
    async with by_nats.connect(nats_url) as nc, by_nats.serve(nc, _server(name, version), node="n"):
        info = await _ask(nc, f"$SRV.INFO.{announced[0]}")
        assert (info["name"], info["version"]) == announced
        assert info["metadata"]["micro.service"] == name
        assert info["metadata"]["micro.version"] == version
        for listed in info["endpoints"]:
            assert NAME.fullmatch(listed["name"])
            answer = await nc.request(listed["subject"], b"{}", timeout=60)
            assert "503" not in (answer.headers or {}).values()


async def test_every_service_of_a_process_is_announced_until_it_leaves(nats_url: str) -> None:
    server = _server("one")
    server.add(Hosted("two", [Endpoint("Two.Echo", _echo)]))
    async with by_nats.connect(nats_url) as nc:
        async with by_nats.serve(nc, server, node="n1"):
            inbox = await nc.subscribe(nc.new_inbox())
            await nc.publish("$SRV.PING", reply=inbox.subject)
            pings = [json.loads((await inbox.next_msg(timeout=60)).data) for _ in range(2)]
            assert {ping["name"] for ping in pings} == {"one", "two"}
        with pytest.raises(nats.errors.NoRespondersError):
            await nc.request("$SRV.PING", timeout=60)


@pytest.fixture(scope="session")
def npm() -> Path:
    """A folder with the official client, installed once for all runs on this machine."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = Path.home() / ".cache" / "microcosmos-tests" / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules" / "@nats-io" / "services").exists():
            options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
            subprocess.run(
                ["npm", "install", *options, *PACKAGES],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
    return folder


@pytest.mark.slow
async def test_the_official_client_discovers_and_calls_a_service(nats_url: str, npm: Path) -> None:
    async with by_nats.connect(nats_url) as nc, by_nats.serve(nc, _server("v1.foo"), node="n1"):
        script = Path(__file__).with_name("services.js")
        ran = await asyncio.to_thread(
            subprocess.run,
            ["node", script, npm, nats_url, "v1-foo", "n1", "rpc.v1~foo.Foo.Call", '{"name":"Jo"}'],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        seen = json.loads(ran.stdout)
        assert seen["answer"] == '{"msg":"Hello Jo"}'
        for asked in ("ping", "pingName", "pingId", "info", "stats"):
            (answer,) = seen[asked]
            assert (answer["name"], answer["id"]) == ("v1-foo", "n1")
            assert answer["version"] == "0.0.0-latest"
            assert answer["metadata"]["micro.service"] == "v1.foo"
        (info,) = seen["info"]
        assert [listed["subject"] for listed in info["endpoints"]] == [
            "rpc.v1~foo.Foo.Call",
            "rpc.v1~foo.Demo.Fail",
        ]
        (stats,) = seen["stats"]
        assert stats["endpoints"][0]["num_requests"] == 1
        assert all(answer != "n1" for answer in seen["pingOther"])
