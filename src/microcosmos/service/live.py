"""A platform that runs: NATS, the lanes of this host, and the registry of the core."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence

from nats.aio.client import Client as NatsClient

from microcosmos.auth.access import Access
from microcosmos.auth.client import follow_policy
from microcosmos.base import errors, urls
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.tasks import background
from microcosmos.broker import Broker
from microcosmos.broker.client import RemoteBroker
from microcosmos.broker.nats import NatsBroker
from microcosmos.events.client import RemoteLog
from microcosmos.events.interface import Log
from microcosmos.events.nats import EngineLog
from microcosmos.events.schema.client import RemoteContracts
from microcosmos.monitor.ledger.client import RemoteLedger
from microcosmos.registry import REFRESH, Service, Table
from microcosmos.registry.client import RegistryClient, follow
from microcosmos.registry.interface import HOST, LANE, REPLICA
from microcosmos.rpc import Client, Hosted, Server, Transport, nats
from microcosmos.rpc.client import Identity
from microcosmos.rpc.lane import LaneTransport, listen
from microcosmos.rpc.nats import NatsTransport

from .identity import open_identity
from .membership import Membership
from .metering import Metering
from .records import record

log = logging.getLogger("microcosmos.service")

OF_THE_CORE = (
    *("api", "auth", "broker", "config", "events", "functions", "monitor", "registry"),
    *("schemas", "store"),
)
"""Services that every process finds on the core's lane, before it has read the registry."""

PATIENCE = 20.0
"""Seconds that a process goes on trying to reach the engine when it starts."""


class LivePlatform:
    """See `interface.Platform`; made by `join`.

    Attributes:
        access: who may call what is answered here; None lets everybody in.
        restarted: another registry answers than before.
        followed: the registry has been read.
        governed: it is known who may call.
    """

    def __init__(self, membership: Membership, nc: NatsClient | None, *, lane: bool = True) -> None:
        self.membership = membership
        core = str(membership.home.core_lane)
        fixed = dict.fromkeys(OF_THE_CORE, core) if lane else {}
        self.table = Table(fixed, host=membership.host)
        self._nc = nc
        self._lanes = LaneTransport(self.table, here=fixed)
        self._by_nats = NatsTransport(nc, self.table) if nc is not None else None
        transports: list[Transport] = [self._lanes] if lane else []
        if self._by_nats is not None:
            transports.append(self._by_nats)
            self.table.on_change(self._by_nats.changed)
        self._identity: Identity | None = None
        self.client = Client(
            transports, self.table, identity=self.header, namespace=membership.namespace
        )
        # What has no connection to the engine asks the core.
        self.broker: Broker = NatsBroker(nc) if nc is not None else RemoteBroker(self.client)
        self.events: Log = RemoteLog(self.client.own())
        self.contracts = RemoteContracts(self.client)
        self.clock: Clock = SYSTEM
        self.registry = RegistryClient(self.client.own())
        self.access: Access | None = None
        self.restarted = asyncio.Event()
        self.followed = asyncio.Event()
        self.governed = asyncio.Event()

    @property
    def nc(self) -> NatsClient | None:
        """The connection to the engine, if there is one."""
        return self._nc

    @property
    def namespace(self) -> str:
        """The namespace that services live in here."""
        return self.membership.namespace

    def header(self) -> str:
        """The Authorization by which this process shows who it is, or an empty text."""
        return self._identity() if self._identity is not None else ""

    def identify(self, identity: Identity) -> None:
        """Be somebody from now on."""
        self._identity = identity

    def govern(self) -> Access:
        """Let in from now on only who may call, which nobody may until `governed`."""
        self.access = Access(self.membership.namespace)
        self.access.on_change(lambda _: self.governed.set())
        return self.access

    @contextlib.asynccontextmanager
    async def host(self, services: Sequence[Hosted]) -> AsyncIterator[None]:
        node = str(uuid.uuid4())
        lane = self.membership.home.lanes / f"{secrets.token_hex(4)}.sock"
        metadata = {
            LANE: str(lane),
            HOST: self.membership.host,
            "protocol": "nats",
            "server": "rpc",
        }
        if self.membership.replica:
            metadata[REPLICA] = self.membership.replica
        namespace = self.membership.namespace
        server = Server(verifier=self.access, client=self.client, namespace=namespace)
        # The registry is read by everyone: what the engine's URL may hold of a user is not told.
        address = urls.bare(self.membership.nats_url)
        records = [record(one, node, metadata, address, namespace) for one in services]
        for hosted in services:
            server.add(hosted)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(listen(lane, server))
            if self._nc is not None:
                await stack.enter_async_context(
                    nats.serve(self._nc, server, node=node, about=metadata)
                )
            if self.access is not None:
                # Nobody is sent here before it is known whom to let in.
                await self.governed.wait()
            await self._register(records)
            if self.membership.name or self.membership.by_hand:
                metering = Metering(RemoteLedger(self.client.own()), services)
                stack.push_async_callback(metering.last)
                await stack.enter_async_context(background(metering.keep(), "metering"))
            stack.push_async_callback(self._deregister, records)
            await stack.enter_async_context(
                background(self._keep_registered(records), "registration")
            )
            yield

    async def _register(self, records: list[Service]) -> None:
        for service in records:
            while True:
                try:
                    await self.registry.register(service)
                    break
                except (errors.Unavailable, errors.DeadlineExceeded, errors.NotFound) as error:
                    log.info("cannot register %s yet: %s", service.name, error.detail)
                    await asyncio.sleep(0.2)

    async def _keep_registered(self, records: list[Service]) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.restarted.wait(), REFRESH)
            self.restarted.clear()
            try:
                await self._register(records)
            except errors.Error as error:
                log.warning("cannot register again: %s", error)

    async def _deregister(self, records: list[Service]) -> None:
        for service in records:
            with contextlib.suppress(errors.Error):
                await asyncio.wait_for(self.registry.deregister(service), 2)

    async def close(self) -> None:
        """Close the lines to other processes."""
        await self.contracts.close()
        await self.broker.close()
        await self._lanes.close()
        if self._by_nats is not None:
            await self._by_nats.close()


@contextlib.asynccontextmanager
async def join(
    membership: Membership,
    name: str = "",
    *,
    lane: bool = True,
    identity: Identity | None = None,
) -> AsyncIterator[LivePlatform]:
    """Join a platform that runs, until the block ends.

    Args:
        membership: where it is.
        name: what NATS shows this connection as.
        lane: False sends every call by NATS, as if across hosts.
        identity: what its own calls show; else what the membership proves. Who proves something
            lets in only who may call.

    Raises:
        errors.Unauthorized: what the membership shows is not right, or a program that was
            started by hand has nobody to act for.
        errors.Unavailable: the engine cannot be reached or refuses the credentials.
    """
    async with contextlib.AsyncExitStack() as stack:
        nc = None
        if membership.nats_url:
            connecting = nats.connect(
                membership.nats_url,
                membership.credentials,
                name,
                inbox_prefix=membership.inbox_prefix,
                patience=PATIENCE,
            )
            nc = await stack.enter_async_context(connecting)
        platform = LivePlatform(membership, nc, lane=lane)
        stack.push_async_callback(platform.close)
        if identity is not None:
            platform.identify(identity)
        else:
            await _prove(platform, stack)
        if nc is not None:
            by_engine = EngineLog(nc, RemoteLog(platform.client.own()))
            platform.events = await stack.enter_async_context(by_engine)
        following = follow(
            platform.registry,
            platform.table,
            domain=membership.namespace,
            read=platform.followed.set,
            restarted=platform.restarted.set,
        )
        await stack.enter_async_context(background(following, "registry"))
        yield platform


async def _prove(platform: LivePlatform, stack: contextlib.AsyncExitStack) -> None:
    """Be who the membership says, and let in only who may call."""
    here, client = platform.membership, platform.client.showing(None)
    identity = await stack.enter_async_context(open_identity(here, client))
    if identity is not None:
        platform.identify(identity)
        following = follow_policy(client, platform.govern(), here.namespace, platform.header)
        await stack.enter_async_context(background(following, "policy"))
        # What reads tokens takes a while to import, and the first of them should not wait for it.
        reading = asyncio.to_thread(importlib.import_module, "microcosmos.auth.tokens")
        await stack.enter_async_context(background(reading, "tokens"))
