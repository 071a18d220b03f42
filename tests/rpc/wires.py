"""The transports as the tests see them: a net where servers come and go, and a client on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from nats.aio.client import Client as NatsClient

from microcosmos.base import names
from microcosmos.rpc import (
    Client,
    Endpoint,
    Hosted,
    MemoryNetwork,
    Middleware,
    Server,
    Verifier,
)
from microcosmos.rpc import handler as handlers
from microcosmos.rpc import nats as by_nats
from microcosmos.rpc.lane import LaneTransport, listen


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition, of any side
            await asyncio.sleep(0)


class Addresses:
    """A resolver: what the registry's table is in production."""

    def __init__(self) -> None:
        self.paths: dict[str, list[str]] = {}
        self.known: set[str] = set()
        self.here: set[str] = set()
        self.dead: set[str] = set()

    def lanes(self, service: str) -> list[str]:
        return self.paths.get(service, [])

    def subject(self, service: str, endpoint: str) -> str:
        return names.subject(service, endpoint)

    def elsewhere(self, service: str) -> bool:
        return service not in self.here

    def lost(self, service: str) -> bool:
        return service in self.dead

    def knows(self, service: str) -> bool:
        return service in self.known

    def retries(self, service: str, endpoint: str) -> bool:
        return True


class Replica:
    """A server that answers on a net."""

    def __init__(self, server: Server, running: AbstractAsyncContextManager[None]) -> None:
        self.server = server
        self._running: AbstractAsyncContextManager[None] | None = running

    async def leave(self) -> None:
        """Stop as a process does that is told to."""
        running, self._running = self._running, None
        if running is not None:
            await running.__aexit__(None, None, None)


class Net:
    """Servers, and a client that reaches them by one kind of transport."""

    def __init__(self) -> None:
        self.addresses = Addresses()
        self.stack = contextlib.AsyncExitStack()
        self.numbers = itertools.count()
        self.replicas: list[Replica] = []
        self.client: Client

    async def serve(
        self,
        *endpoints: Callable[..., Any] | Endpoint,
        service: str = "demo",
        middleware: Iterable[Middleware] = (),
        verifier: Verifier | None = None,
        drain: float = 10.0,
    ) -> Replica:
        """Start a server with one service; functions become its endpoints."""
        made = [e if isinstance(e, Endpoint) else handlers.endpoint(e, service) for e in endpoints]
        server = Server(client=self.client, verifier=verifier)
        server.add(Hosted(service, made, middleware=middleware))
        self.addresses.known.add(service)
        running = self.running(server, drain)
        await running.__aenter__()
        replica = Replica(server, running)
        self.replicas.append(replica)
        self.stack.push_async_callback(replica.leave)
        return replica

    def running(self, server: Server, drain: float) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError


class MemoryNet(Net):
    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()
        self.client = Client([self.network], self.addresses)

    @contextlib.asynccontextmanager
    async def running(self, server: Server, drain: float) -> AsyncIterator[None]:
        self.network.join(server)
        yield
        self.network.leave(server)
        if not await server.drain(drain):
            self.network.cut(server)


class LaneNet(Net):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.transport = LaneTransport(self.addresses)
        self.stack.push_async_callback(self.transport.close)
        self.client = Client([self.transport], self.addresses)

    @contextlib.asynccontextmanager
    async def running(self, server: Server, drain: float) -> AsyncIterator[None]:
        path = self.folder / f"{next(self.numbers)}.sock"
        for name in server.services:
            self.addresses.paths.setdefault(name, []).append(str(path))
        async with listen(path, server, drain=drain):
            yield


class NatsNet(Net):
    def __init__(self, url: str, nc: NatsClient) -> None:
        super().__init__()
        self.url = url
        self.nc = nc
        self.transport = by_nats.NatsTransport(nc, self.addresses)
        self.stack.push_async_callback(self.transport.close)
        self.client = Client([self.transport], self.addresses)

    @contextlib.asynccontextmanager
    async def running(self, server: Server, drain: float) -> AsyncIterator[None]:
        async with (
            by_nats.connect(self.url) as nc,
            by_nats.serve(nc, server, node=f"node{next(self.numbers)}", drain=drain),
        ):
            yield


@contextlib.asynccontextmanager
async def memory_net() -> AsyncIterator[Net]:
    net = MemoryNet()
    async with net.stack:
        yield net


@contextlib.asynccontextmanager
async def lane_net(folder: Path) -> AsyncIterator[LaneNet]:
    net = LaneNet(folder)
    async with net.stack:
        yield net


@contextlib.asynccontextmanager
async def nats_net(url: str) -> AsyncIterator[NatsNet]:
    async with by_nats.connect(url) as nc:
        net = NatsNet(url, nc)
        async with net.stack:
            yield net


class NatsServer:
    """A nats-server of its own, on a free port."""

    def __init__(self, folder: Path, max_payload: int) -> None:
        self._folder = folder
        self._port = -1
        self._settings = f"max_payload: {max_payload}\n"
        self.start()

    def start(self) -> None:
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self._port}"\nports_file_dir: "{self._folder}"\n' + self._settings
        )
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("nats-server"), "-c", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = self._url()
        self._port = int(self.url.rpartition(":")[2])

    def _url(self) -> str:
        told = self._folder / f"nats-server_{self._process.pid}.ports"
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self._process.poll() is None, "nats-server has ended"
            if told.exists() and (text := told.read_text()):
                return str(json.loads(text)["nats"][0])
            time.sleep(0.005)
        raise AssertionError("nats-server told no port")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
