"""Real engines of tests: nats-servers that can be killed, and logs on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nats.aio.client import Client as NatsClient

from microcosmos.events.nats import EngineLog, NatsLog
from microcosmos.rpc.connection import connect
from microcosmos.server.engine import program

from .worlds import World

SECRET = b"of the tests"
MAX_PAYLOAD = 8 * 1024 * 1024 + 64 * 1024


class Engine:
    """A nats-server on a port of its own, with its streams in a folder."""

    def __init__(self, folder: Path, **jetstream: Any) -> None:
        self.folder = folder
        self.streams = folder / "jetstream"
        self._jetstream = {"sync_interval": "always", "store_dir": str(folder), **jetstream}
        self._port = -1
        self.start()

    def start(self) -> None:
        config = self.folder / "nats.conf"
        settings = {
            "listen": f"127.0.0.1:{self._port}",
            "ports_file_dir": str(self.folder),
            "max_payload": MAX_PAYLOAD,
            "jetstream": self._jetstream,
        }
        config.write_text(json.dumps(settings))
        self.process = subprocess.Popen(
            [program(), "-c", config, "-l", self.folder / "nats.log"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = self.folder / f"nats-server_{self.process.pid}.ports"
        end = time.monotonic() + 20
        while not (told.exists() and told.read_text()):
            assert self.process.poll() is None, "nats-server has ended"
            assert time.monotonic() < end, "nats-server told no port"
            time.sleep(0.005)
        self.url = str(json.loads(told.read_text())["nats"][0])
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it as a power cut would, but for what the kernel has."""
        self.process.kill()
        self.process.wait()

    @contextlib.asynccontextmanager
    async def log(self, **settings: Any) -> AsyncIterator[NatsLog]:
        """A log as the core has it, by a connection of its own."""
        async with connect(self.url) as nc, NatsLog(nc, secret=SECRET, **settings) as log:
            yield log

    @contextlib.asynccontextmanager
    async def service(self, core: NatsLog) -> AsyncIterator[EngineLog]:
        """A log as a service has it, by a connection of its own."""
        async with connect(self.url) as nc, EngineLog(nc, core) as log:
            yield log

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[NatsClient]:
        async with connect(self.url) as nc:
            yield nc

    @contextlib.asynccontextmanager
    async def emptied(self) -> AsyncIterator[NatsLog]:
        """A log without anything in it, which leaves nothing behind."""
        async with self.log(durability="of the tests") as log:
            try:
                yield log
            finally:
                await log.destroy()
                await self._removed()

    async def _removed(self) -> None:
        """Wait until the files of what was destroyed are gone: it goes on in the background, and
        what is deleted meanwhile under the same name is not removed."""
        async with asyncio.timeout(60):
            while self._removing():  # noqa: ASYNC110 - the engine does it
                await asyncio.sleep(0.001)

    def _removing(self) -> bool:
        try:
            return any(self.streams.glob("*/streams/.*"))
        except FileNotFoundError:
            # It was removed as it was looked at; there may be more.
            return True

    @contextlib.asynccontextmanager
    async def by_core(self) -> AsyncIterator[World]:
        """As the core sees it."""
        async with self.emptied() as log:
            yield World(log)

    @contextlib.asynccontextmanager
    async def by_service(self) -> AsyncIterator[World]:
        """As a service sees it, which asks the core beside."""
        async with self.emptied() as core, self.service(core) as log:
            yield World(log, core)
