"""The core process: registry, store, runtime and the gRPC proxy; started by the supervisor.

It may die and come back at any moment: services, gateways and functions go on without it, and
find it again by its socket and by NATS.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from nats.aio.client import Client as NatsClient

from microcosmos.auth.credentials import Account, Keys
from microcosmos.base import collector, errors, log, profiles
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.lifespan import report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.gateway.front.blocklist import TABLE, ApiService
from microcosmos.proxy import debug, tls
from microcosmos.proxy.numbers import Numbers
from microcosmos.proxy.server import serve_proxy
from microcosmos.registry import Table, this_host
from microcosmos.registry.connections import tag
from microcosmos.registry.discovery import Discovery
from microcosmos.registry.gossip import gossip
from microcosmos.registry.interface import HOST, LANE, REPLICA
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Hosted, Server, Transport
from microcosmos.rpc import nats as rpc_nats
from microcosmos.rpc.lane import LaneTransport, listen
from microcosmos.runtime.children import parse_name
from microcosmos.runtime.deployment import Deployment
from microcosmos.runtime.processes import ProcessRuntime
from microcosmos.runtime.service import RuntimeService
from microcosmos.runtime.settings import Settings
from microcosmos.service.records import record
from microcosmos.store import Store, open_store

from .control import SERVICE as SUPERVISOR
from .control import OneSocket, SupervisorClient

logger = logging.getLogger("microcosmos.core")

RESERVED = frozenset(
    {
        "api",
        "core",
        "gateway",
        "healthz",
        "openapi",
        "proxy",
        "readyz",
        "registry",
        "runtime",
        "store",
    }
)
"""Names that nothing deployed may take."""

DRAIN = 1.0
"""Seconds that calls to the core have to end in; those that only wait for news need not."""


class Core:
    """What the core is made of, tied together."""

    def __init__(self, home: Home, nc: NatsClient | None, host: str = "") -> None:
        self.home = home
        self.nc = nc
        self.name = host or this_host()
        self.registry = MemoryRegistry(host=self.name)
        self.table = Table(host=self.name)
        self.registry.listen(self.table.apply)
        transports: list[Transport] = [LaneTransport(self.table)]
        if nc is not None:
            transports.append(rpc_nats.NatsTransport(nc, self.table))
        self.client = Client(transports, self.table)
        self.server = Server(client=self.client)
        self.node = str(uuid.uuid4())

    @asynccontextmanager
    async def host(self, services: list[Hosted]) -> AsyncIterator[None]:
        """Answer for services, with their names in the registry, until the block ends."""
        where = {LANE: str(self.home.core_lane), HOST: self.name, REPLICA: "core"}
        for hosted in services:
            self.server.add(hosted)
            await self.registry.register(record(hosted, self.node, {**where, "server": "core"}))
        if self.nc is None:
            yield
        else:
            async with rpc_nats.serve(
                self.nc, self.server, node=self.node, about=where, services=services, drain=DRAIN
            ):
                yield


async def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    home = Home()
    profile = profiles.load()
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_asked(interrupts=False))
        store = await stack.enter_async_context(open_store(profile.store.format(home=home.server)))
        nc = await _connected(stack)
        _admin(home, nc)
        core = await stack.enter_async_context(open_core(home, nc))
        runtime = await stack.enter_async_context(_runtime(core, store))
        api = ApiService(store.table(TABLE))
        hosted = [RuntimeService(runtime).hosted(), api.hosted()]
        await stack.enter_async_context(core.host(hosted))
        # First of all when the core stops, as the registry's watchers.
        stack.callback(api.close)
        address = os.environ.get("MICRO_PROXY_ADDRESS", "127.0.0.1:8081")
        proxy = serve_proxy(
            address,
            core.client,
            core.table,
            numbers=await _numbers(store),
            tls=tls.from_environment(home.server / "proxy-tls"),
            socket=home.proxy_socket,
            schemas=core.registry.describe,
            stats=debug.by_nats(nc) if nc is not None else None,
        )
        await stack.enter_async_context(proxy)
        logger.info("core answers, profile %s", profile.name)
        report_ready()
        await stop.wait()


@asynccontextmanager
async def open_core(home: Home, nc: NatsClient | None, host: str = "") -> AsyncIterator[Core]:
    """Run what every core has, a registry that answers on the core's lane and on NATS.

    Args:
        home: where its socket is.
        nc: the engine, if there is one.
        host: the name of this host among those of a cluster; its own unless said.
    """
    core = Core(home, nc, host)
    async with AsyncExitStack() as stack:
        if nc is not None:
            # Whoever was there before this core is known before anyone can ask for it.
            await stack.enter_async_context(gossip(nc, core.registry))
            discovery = Discovery(nc, core.registry, RESERVED)
            await discovery.look()
            await stack.enter_async_context(background(discovery.keep(), "discovery"))
        await stack.enter_async_context(core.host([RegistryService(core.registry).hosted()]))
        await stack.enter_async_context(listen(home.core_lane, core.server, drain=DRAIN))
        # First of all when the core stops: who waits for news is let go.
        stack.callback(core.registry.close)
        yield core


async def _numbers(store: Store) -> Numbers:
    """The numbers of protobuf fields that were ever published."""
    numbers = Numbers(store)
    try:
        await numbers.load()
    except errors.Error as exc:
        # They are read when they are needed; what is published meanwhile is not made up.
        logger.warning("the numbers of protobuf fields could not be read yet: %s", exc.detail)
    return numbers


def _runtime(core: Core, store: Store) -> ProcessRuntime:
    """The runtime, with the supervisor as the owner of its processes."""
    socket = OneSocket(SUPERVISOR, core.home.supervisor_lane)
    spawner = SupervisorClient(Client([LaneTransport(socket)], socket))
    settings = Settings(reserved=RESERVED)
    environment = _Replicas(core.home, core.name).environment
    return ProcessRuntime(core.home, store, core.registry, spawner, environment, settings=settings)


class _Replicas:
    """What replicas are told of the engine: where it is, and credentials of their own."""

    def __init__(self, home: Home, host: str) -> None:
        self._folder = home.server / "keys" / "replicas"
        self._host = host
        self._url = os.environ.get("NATS_URL", "")
        self._account: Account | None = None
        if self._url and "NATS_INBOX_PREFIX" in os.environ:
            self._account = Keys(home.server / "keys").account(DEFAULT_NAMESPACE)

    async def environment(self, deployment: Deployment, process: str) -> dict[str, str]:
        if not self._url:
            return {}
        told = {"NATS_URL": self._url}
        if self._account is None:
            # An engine of somebody else: everyone shows what the operator gave us.
            creds = os.environ.get("NATS_CREDS")
            return {**told, "NATS_CREDS": creds} if creds else told
        # By them a foreign service is known to be this process: it says nothing of itself.
        tags = (tag(REPLICA, process), tag(HOST, self._host))
        credential = self._account.user(deployment.name, tags=tags)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # One for each place among the replicas, under a name that no service has.
        _, _, number = parse_name(process) or ("", "", "0")
        path = credential.write(self._folder / f"{deployment.name}@{number}.creds")
        return {**told, "NATS_CREDS": str(path), "NATS_INBOX_PREFIX": credential.inbox_prefix}


async def _connected(stack: AsyncExitStack) -> NatsClient | None:
    """The engine, waited for: it is started at the same time as we are."""
    url = os.environ.get("NATS_URL")
    if not url:
        return None
    credentials = os.environ.get("NATS_CREDS")
    inbox = os.environ.get("NATS_INBOX_PREFIX", "")
    return await stack.enter_async_context(
        rpc_nats.connect(url, credentials, "core", inbox_prefix=inbox, patience=20)
    )


def _admin(home: Home, nc: NatsClient | None) -> None:
    """The credentials of programs that this user starts by hand."""
    path = home.server / "keys" / "admin.creds"
    if nc is not None and not path.exists():
        Keys(path.parent).account(DEFAULT_NAMESPACE).user("admin").write(path)


if __name__ == "__main__":
    log.setup()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"core: {error.detail}")
