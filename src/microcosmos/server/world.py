"""World: one namespace as the core lives in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from nats.aio.client import Client as NatsClient

from microcosmos.base import names
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.registry import Table
from microcosmos.registry.discovery import Discovery
from microcosmos.registry.gossip import gossip
from microcosmos.registry.interface import HOST, LANE, REPLICA
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.rpc import Client, Hosted, Server, Transport
from microcosmos.rpc import nats as rpc_nats
from microcosmos.rpc.client import Identity
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.server import Verifier
from microcosmos.service.records import record

from .topics import Topics

logger = logging.getLogger("microcosmos.core")

DRAIN = 1.0
"""Seconds that calls to the core have to end in; those that only wait for news need not."""


class World:
    """The services of a namespace as the core sees them, and the core's own as they see it.

    Made by `open_world`.

    Attributes:
        namespace: which.
        nc: the connection in its account of the engine, if there is one.
        topics: its messages and events.
        table: its services.
        client: calls them.

    Args:
        namespace: which.
        home: the platform's home.
        host: the name of this host.
        node: the id of the core.
        registry: of all namespaces.
        nc: the connection in its account of the engine, if there is one.
        topics: its messages and events.
        verifier: says who calls the core; without one everybody may.
        identity: what the core's own calls show.
    """

    def __init__(
        self,
        namespace: str,
        home: Home,
        host: str,
        node: str,
        registry: MemoryRegistry,
        nc: NatsClient | None,
        topics: Topics,
        verifier: Verifier | None,
        identity: Identity | None,
    ) -> None:
        self.namespace = namespace
        self.nc = nc
        self.topics = topics
        self.table = Table(host=host)
        self._node = node
        self._registry = registry
        self._where = {LANE: str(home.core_lane), HOST: host, REPLICA: "core"}
        self._lanes = LaneTransport(self.table)
        self._by_nats = rpc_nats.NatsTransport(nc, self.table) if nc is not None else None
        transports: list[Transport] = [self._lanes]
        if self._by_nats is not None:
            transports.append(self._by_nats)
            self.table.on_change(self._by_nats.changed)
        self.client = Client(transports, self.table, identity=identity, namespace=namespace)
        # What comes by the account of a namespace is of that one, whatever it says. The first is
        # the only one that an engine of somebody else has.
        only = "" if namespace == DEFAULT_NAMESPACE else namespace
        self.server = Server(verifier=verifier, client=self.client, namespace=only)
        self._hosting: dict[str, AsyncExitStack] = {}
        self.table.replace(registry.known(namespace))

    async def host(self, services: Sequence[Hosted]) -> None:
        """Answer for services of the core, which are in the registry of this namespace then."""
        for hosted in services:
            self.server.add(hosted)
            about = {**self._where, "server": "core"}
            await self._registry.register(
                record(hosted, self._node, about, namespace=self.namespace)
            )
        if self.nc is None:
            return
        stack = AsyncExitStack()
        serving = rpc_nats.serve(
            self.nc,
            self.server,
            node=self._node,
            about=self._where,
            services=services,
            drain=DRAIN,
        )
        await stack.enter_async_context(serving)
        self._hosting[_group(services)] = stack

    async def leave(self, services: Sequence[Hosted]) -> None:
        """Answer for them no more; what is being handled is finished."""
        if stack := self._hosting.pop(_group(services), None):
            await stack.aclose()

    async def close(self) -> None:
        """Let go of everything that is still open."""
        for stack in self._hosting.values():
            await stack.aclose()
        await self._lanes.close()
        if self._by_nats is not None:
            await self._by_nats.close()


def _group(services: Sequence[Hosted]) -> str:
    return ",".join(hosted.name for hosted in services)


@asynccontextmanager
async def open_world(
    namespace: str,
    home: Home,
    host: str,
    node: str,
    registry: MemoryRegistry,
    nc: NatsClient | None,
    topics: Topics,
    *,
    verifier: Verifier | None = None,
    identity: Identity | None = None,
) -> AsyncIterator[World]:
    """Live in a namespace: everyone who is there already is known before anyone can ask for it."""
    async with AsyncExitStack() as stack:
        if nc is not None:
            await stack.enter_async_context(gossip(nc, registry, namespace))
            discovery = Discovery(nc, registry, names.RESERVED, namespace)
            stack.callback(registry.finders.pop, namespace, None)
            await discovery.look()
            await stack.enter_async_context(background(discovery.keep(), "discovery"))
        world = World(namespace, home, host, node, registry, nc, topics, verifier, identity)
        stack.push_async_callback(world.close)
        yield world
