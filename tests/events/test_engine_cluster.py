"""A log on a cluster of three real servers, one of which is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.events.interface import Draft
from microcosmos.events.nats import NatsLog
from microcosmos.rpc.connection import connect
from microcosmos.server.engine import program
from microcosmos.testing.engine import free_port

from .engine import SECRET, Engine

pytestmark = pytest.mark.slow

SERVERS = 3


class Member:
    """A server of a cluster."""

    def __init__(self, folder: Path, port: int, route: int, routes: list[int]) -> None:
        folder.mkdir()
        self.url = f"nats://127.0.0.1:{port}"
        settings = {
            "server_name": folder.name,
            "listen": f"127.0.0.1:{port}",
            "jetstream": {"store_dir": str(folder)},
            "cluster": {
                "name": "three",
                "listen": f"127.0.0.1:{route}",
                "routes": [f"nats://127.0.0.1:{one}" for one in routes],
            },
        }
        config = folder / "nats.conf"
        config.write_text(json.dumps(settings))
        self.process = subprocess.Popen(
            [program(), "-c", config, "-l", folder / "nats.log"], stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Member]]:
    ports, routes = ([free_port() for _ in range(SERVERS)] for _ in range(2))
    members = [
        Member(tmp_path / f"n{place}", *pair, routes)
        for place, pair in enumerate(zip(ports, routes, strict=True))
    ]
    try:
        yield members
    finally:
        for member in members:
            member.kill()


@contextlib.asynccontextmanager
async def log_of(members: list[Member]) -> AsyncIterator[NatsLog]:
    """The log, once the servers have found each other."""
    urls = ",".join(member.url for member in members)
    async with asyncio.timeout(60), connect(urls, patience=20) as nc:
        while True:
            try:
                async with NatsLog(nc, secret=SECRET, replicas=SERVERS) as log:
                    yield log
                return
            except errors.Unavailable:
                await asyncio.sleep(0.1)


async def test_a_server_of_three_is_killed_and_nothing_is_lost(cluster: list[Member]) -> None:
    async with log_of(cluster) as log:
        first = [await log.publish(Draft("t", b"%d" % number)) for number in range(20)]
        cluster[0].kill()
        then = [await log.publish(Draft("t", b"%d" % number)) for number in range(20, 40)]
        told = [receipt.sequence for (receipt,) in (*first, *then)]
        found = await log.read("t")
        assert [event.sequence for event in found] == told
        assert [event.payload for event in found] == [b"%d" % number for number in range(40)]


async def test_a_single_server_keeps_one_copy(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    try:
        async with connect(engine.url) as nc:
            for _ in range(2):
                async with NatsLog(nc, secret=SECRET, replicas=SERVERS) as log:
                    (receipt,) = await log.publish(Draft("t", b""))
                    assert receipt.sequence
    finally:
        engine.kill()
