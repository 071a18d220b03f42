"""Several whole nodes in one test process, as if on as many hosts.

Each node has a nats-server of its own, a core with its registry, a gateway and a platform for
services. The nats-servers form a real cluster; sockets are not shared between nodes, so calls
from one to another go by NATS. The cores keep records and settings in one store, in memory here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import psutil
from nats.aio.client import Client as NatsClient

from microcosmos.base.home import Home
from microcosmos.config.config import open_config
from microcosmos.config.service import ConfigService
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import serve
from microcosmos.registry.interface import HOST
from microcosmos.rpc import Hosted
from microcosmos.rpc import nats as rpc_nats
from microcosmos.server.core import open_core
from microcosmos.service import Service
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import Membership
from microcosmos.store import open_store
from microcosmos.store.service import StoreService

from .engine import free_port, nats_server
from .platform import Bench

T = TypeVar("T")

Kept = Callable[[], list[Hosted]]
"""Makes what serves, on a core, what all nodes keep together."""


class Node:
    """One node of a cluster; made by `Cluster.add`.

    Attributes:
        name: of the node.
        url: of its gateway.
        bench: what services run on and are called from.
        nc: its core's connection to the engine.
    """

    def __init__(self, name: str, folder: Path, kept: Kept) -> None:
        self.name = name
        self.url = ""
        self.bench: Bench
        self.nc: NatsClient
        self.alive = False
        self._folder = folder
        self._kept = kept
        self._stack = AsyncExitStack()
        self._port = free_port()
        self.route = f"nats://127.0.0.1:{free_port()}"

    async def open(self, routes: list[str]) -> None:
        """Start the node and let it join the others."""
        enter = self._stack.enter_async_context
        home = Home(self._folder)
        home.make()
        peers = ",".join([self.route, *routes])
        arguments = ("--name", self.name, "--cluster_name", "test")
        joined = (*arguments, "--cluster", self.route, "--routes", peers)
        url = await enter(nats_server(self._folder, *joined, port=self._port))
        self.nc = await enter(rpc_nats.connect(url, name=f"core of {self.name}", patience=10))
        core = await enter(open_core(home, self.nc, self.name))
        await enter(core.host(self._kept()))
        here = Membership(nats_url=url, credentials=None, home=home, host=self.name)
        platform = await enter(join(here, self.name))
        await platform.followed.wait()
        self.url = await enter(_gateway(platform))
        self.bench = Bench(platform, await enter(AsyncExitStack()))
        self.alive = True

    def replicas(self, service: str, *, on: str = "") -> set[str]:
        """The ids of a service's replicas that this node knows of, all or those on one node."""
        return {
            replica.id
            for one in self.bench.platform.table.services()
            if one.name == service
            for replica in one.nodes
            if not on or replica.metadata.get(HOST) == on
        }

    async def start(self, *services: Service) -> None:
        """Run services on this node."""
        await self.bench.start(*services)

    async def kill(self) -> None:
        """End the node as if its power had gone: nobody hears a goodbye."""
        if not self.alive:
            return
        self.alive = False
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if str(self._port) in process.cmdline():
                    process.send_signal(signal.SIGKILL)
        await self.close()

    async def close(self) -> None:
        """End the node in order."""
        self.alive = False
        await self._stack.aclose()


class Cluster:
    """Nodes that form a cluster.

    Attributes:
        nodes: in the order of their coming; those that were killed stay in the list.
    """

    def __init__(self, folder: Path, stack: AsyncExitStack, kept: Kept) -> None:
        self.nodes: list[Node] = []
        self._folder = folder
        self._kept = kept
        self._stack = stack
        self._numbers = itertools.count(1)

    async def add(self) -> Node:
        """Start one more node; it has joined when its engine and the others hear each other."""
        name = f"node-{next(self._numbers)}"
        folder = self._folder / name
        folder.mkdir()
        node = Node(name, folder, self._kept)
        others = [other for other in self.nodes if other.alive]
        self._stack.push_async_callback(node.close)
        await node.open([other.route for other in others])
        for other in others:
            await _hears(node.nc, other.nc)
            await _hears(other.nc, node.nc)
        self.nodes.append(node)
        return node

    async def until(self, condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
        """Wait until something is true, as news takes a moment to travel.

        Raises:
            TimeoutError: it did not become true in time.
        """
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition, of any part
                await asyncio.sleep(0.01)

    def knows(self, service: str) -> bool:
        """Whether every living node knows of a service, and of all its replicas that live."""
        living = [node for node in self.nodes if node.alive]
        replicas = {id for node in living for id in node.replicas(service, on=node.name)}
        return bool(replicas) and all(replicas <= node.replicas(service) for node in living)


@contextlib.asynccontextmanager
async def cluster(nodes: int = 3) -> AsyncIterator[Cluster]:
    """Nodes in this process, as if on as many hosts, until the block ends."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="micro-"))
        store = await stack.enter_async_context(open_store("memory://"))
        config = await stack.enter_async_context(open_config(store))

        def kept() -> list[Hosted]:
            return [StoreService(store).hosted(), ConfigService(config, trusting=True).hosted()]

        made = Cluster(Path(folder), stack, kept)
        for _ in range(nodes):
            await made.add()
        yield made


async def _hears(ears: NatsClient, mouth: NatsClient) -> None:
    """Return once what is said on one connection comes to another."""
    heard = await ears.subscribe(ears.new_inbox())
    async with asyncio.timeout(10):
        while not heard.pending_msgs:  # routes are made, and told of subscriptions, in a while
            await mouth.publish(heard.subject)
            await mouth.flush()
            await asyncio.sleep(0.01)
    await heard.unsubscribe()


@contextlib.asynccontextmanager
async def _gateway(platform: LivePlatform) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    gateway = Gateway(platform.client, platform.table)
    gateway.ready = True
    async with serve(gateway, listening):
        yield f"http://127.0.0.1:{port}"
