"""A platform that runs: NATS, the lanes of this host, and the registry of the core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence

from nats.aio.client import Client as NatsClient

from microcosmos.base import errors
from microcosmos.base.tasks import background
from microcosmos.registry import REFRESH, Service, Table
from microcosmos.registry.client import RegistryClient, follow
from microcosmos.registry.interface import HOST, LANE, REPLICA
from microcosmos.rpc import Client, Hosted, Server, Transport, nats
from microcosmos.rpc.lane import LaneTransport, listen
from microcosmos.rpc.nats import NatsTransport

from .membership import Membership
from .records import record

log = logging.getLogger("microcosmos.service")

PATIENCE = 20.0
"""Seconds that a process goes on trying to reach the engine when it starts."""


class LivePlatform:
    """See `interface.Platform`; made by `join`."""

    def __init__(self, membership: Membership, nc: NatsClient | None, *, lane: bool = True) -> None:
        self.membership = membership
        core = str(membership.home.core_lane)
        self.table = Table({"registry": core} if lane else {}, host=membership.host)
        self._nc = nc
        self._lanes = LaneTransport(self.table)
        self._by_nats = NatsTransport(nc, self.table) if nc is not None else None
        transports: list[Transport] = [self._lanes] if lane else []
        if self._by_nats is not None:
            transports.append(self._by_nats)
        self.client = Client(transports, self.table)
        self.registry = RegistryClient(self.client)
        self.restarted = asyncio.Event()
        self.followed = asyncio.Event()

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
        server = Server(client=self.client)
        records = [record(hosted, node, metadata, self.membership.nats_url) for hosted in services]
        for hosted in services:
            server.add(hosted)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(listen(lane, server))
            if self._nc is not None:
                await stack.enter_async_context(
                    nats.serve(self._nc, server, node=node, about=metadata)
                )
            await self._register(records)
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
        await self._lanes.close()
        if self._by_nats is not None:
            await self._by_nats.close()


@contextlib.asynccontextmanager
async def join(
    membership: Membership, name: str = "", *, lane: bool = True
) -> AsyncIterator[LivePlatform]:
    """Join a platform that runs, until the block ends.

    Args:
        membership: where it is.
        name: what NATS shows this connection as.
        lane: False sends every call by NATS, as if across hosts.

    Raises:
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
        following = follow(
            platform.registry,
            platform.table,
            read=platform.followed.set,
            restarted=platform.restarted.set,
        )
        await stack.enter_async_context(background(following, "registry"))
        yield platform
