"""Several whole nodes in one test process, as if on as many hosts.

Each node has a nats-server of its own, a core with its registry, a gateway and a platform for
services. The nats-servers form a real cluster; sockets are not shared between nodes, so calls
from one to another go by NATS.
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

from microcosmos.base.home import Home
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import serve
from microcosmos.rpc import nats as rpc_nats
from microcosmos.server.core import open_core
from microcosmos.service import Service
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import Membership

from .engine import free_port, nats_server
from .platform import Bench

T = TypeVar("T")


class Node:
    """One node of a cluster; made by `Cluster.add`.

    Attributes:
        name: of the node.
        url: of its gateway.
        bench: what services run on and are called from.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.url = ""
        self.bench: Bench
        self.alive = False
        self._folder = folder
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
        nc = await enter(rpc_nats.connect(url, name=f"core of {self.name}", patience=10))
        await enter(open_core(home, nc, self.name))
        here = Membership(nats_url=url, credentials=None, home=home, host=self.name)
        platform = await enter(join(here, self.name))
        await platform.followed.wait()
        self.url = await enter(_gateway(platform))
        self.bench = Bench(platform, await enter(AsyncExitStack()))
        self.alive = True

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

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.nodes: list[Node] = []
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count(1)

    async def add(self) -> Node:
        """Start one more node and let it join."""
        name = f"node-{next(self._numbers)}"
        folder = self._folder / name
        folder.mkdir()
        node = Node(name, folder)
        routes = [other.route for other in self.nodes if other.alive]
        self._stack.push_async_callback(node.close)
        await node.open(routes)
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
        """Whether every living node knows of a service."""
        return all(
            any(known.name == service for known in node.bench.platform.table.services())
            for node in self.nodes
            if node.alive
        )


@contextlib.asynccontextmanager
async def cluster(nodes: int = 3) -> AsyncIterator[Cluster]:
    """Nodes in this process, as if on as many hosts, until the block ends."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="micro-"))
        made = Cluster(Path(folder), stack)
        for _ in range(nodes):
            await made.add()
        yield made


@contextlib.asynccontextmanager
async def _gateway(platform: LivePlatform) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    gateway = Gateway(platform.client, platform.table)
    gateway.ready = True
    async with serve(gateway, listening):
        yield f"http://127.0.0.1:{port}"
