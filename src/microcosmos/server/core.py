"""The core process: registry, store, runtime and the gRPC proxy; started by the supervisor.

It may die and come back at any moment: services, gateways and functions go on without it, and
find it again by its socket and by NATS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from nats.aio.client import Client as NatsClient

from microcosmos.auth.credentials import Keys
from microcosmos.base import errors, log, profiles
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.lifespan import lifeline_closed, report_ready
from microcosmos.base.tasks import background
from microcosmos.registry import Table, this_host
from microcosmos.registry.discovery import discover, keep_discovering
from microcosmos.registry.interface import HOST, LANE
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Hosted, Server, Transport
from microcosmos.rpc import nats as rpc_nats
from microcosmos.rpc.lane import LaneTransport, listen
from microcosmos.service.records import record

logger = logging.getLogger("microcosmos.core")


class Core:
    """What the core is made of, tied together."""

    def __init__(self, home: Home, nc: NatsClient | None) -> None:
        self.home = home
        self.nc = nc
        self.registry = MemoryRegistry()
        self.table = Table()
        self.registry.listen(self.table.apply)
        transports: list[Transport] = [LaneTransport(self.table)]
        if nc is not None:
            transports.append(rpc_nats.NatsTransport(nc, self.table))
        self.client = Client(transports, self.table)
        self.server = Server(client=self.client)
        self.node = str(uuid.uuid4())

    async def host(self, services: list[Hosted]) -> None:
        """Answer for services and put them into the registry."""
        where = {LANE: str(self.home.core_lane), HOST: this_host(), "server": "core"}
        for hosted in services:
            hosted.metadata.update(where)
            self.server.add(hosted)
            service = record(hosted, self.node, {**where, "micro.replica": "core"})
            await self.registry.register(service)


async def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches the whole group; the supervisor decides what it means.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    home = Home()
    profile = profiles.load()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(background(_orphaned(stop), "lifeline"))
        nc = await _connected(stack)
        _admin(home, nc)
        await stack.enter_async_context(open_core(home, nc))
        logger.info("core answers, profile %s", profile.name)
        report_ready()
        await stop.wait()


@asynccontextmanager
async def open_core(home: Home, nc: NatsClient | None) -> AsyncIterator[Core]:
    """Run what every core has, a registry that answers on the core's lane and on NATS."""
    core = Core(home, nc)
    async with AsyncExitStack() as stack:
        if nc is not None:
            # Whoever was there before this core is known before anyone can ask for it.
            await discover(nc, core.registry)
        await core.host([RegistryService(core.registry).hosted()])
        await stack.enter_async_context(listen(home.core_lane, core.server))
        if nc is not None:
            await stack.enter_async_context(rpc_nats.serve(nc, core.server, node=core.node))
            discovering = keep_discovering(nc, core.registry)
            await stack.enter_async_context(background(discovering, "discovery"))
        yield core


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


async def _orphaned(stop: asyncio.Event) -> None:
    await lifeline_closed()
    stop.set()


if __name__ == "__main__":
    log.setup()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"core: {error.detail}")
