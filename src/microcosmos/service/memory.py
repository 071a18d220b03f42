"""A platform in this process: nothing is started, nothing is written."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from microcosmos.base import clock as clocks
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.broker import Broker
from microcosmos.broker.memory import MemoryBroker
from microcosmos.config.config import open_config
from microcosmos.config.service import ConfigService
from microcosmos.events.interface import Log
from microcosmos.events.memory import MemoryLog
from microcosmos.events.schema import Contracts
from microcosmos.events.schema.local import LocalContracts
from microcosmos.events.schema.registry import TABLE, Registry
from microcosmos.registry import Table
from microcosmos.registry.interface import REPLICA
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Hosted, MemoryNetwork, Server, Verifier
from microcosmos.store import PLATFORM, open_store
from microcosmos.store.service import StoreService

from .records import record
from .serving import serving


class MemoryPlatform:
    """See `interface.Platform`; a registry service is on it, as on a live one.

    Args:
        clock: where the times of the registry and of events come from.
        verifier: says who calls; without one everybody may, and is nobody.
    """

    namespace = DEFAULT_NAMESPACE

    def __init__(
        self, clock: clocks.Clock = clocks.SYSTEM, verifier: Verifier | None = None
    ) -> None:
        self._verifier = verifier
        self.table = Table()
        self.registry = MemoryRegistry(clock=clock)
        self.registry.listen(self.table.apply)
        self._network = MemoryNetwork()
        self.client = Client([self._network], self.table)
        self.broker = MemoryBroker()
        self.events = MemoryLog(clock)
        self.clock = clock
        self.contracts: Contracts | None = None

    @contextlib.asynccontextmanager
    async def host(self, services: Sequence[Hosted], *, open: bool = False) -> AsyncIterator[None]:
        """See `interface.Platform`.

        Args:
            services: what is answered for.
            open: whether everybody may call them: here services need no accounts.
        """
        server = Server(verifier=None if open else self._verifier, client=self.client)
        node = str(uuid.uuid4())
        # A process of ours: it is there as long as this one, and registers once.
        about = {"protocol": "memory", REPLICA: node}
        records = [record(hosted, node, about) for hosted in services]
        for hosted, service in zip(services, records, strict=True):
            server.add(hosted)
            await self.registry.register(service)
        self._network.join(server)
        try:
            yield
        finally:
            for service in records:
                await self.registry.deregister(service)
            self._network.leave(server)
            await server.drain(10)


class Kept(NamedTuple):
    """What keeps what services have.

    Attributes:
        services: that serve it.
        contracts: what events are checked by.
    """

    services: list[Hosted]
    contracts: Contracts


@contextlib.asynccontextmanager
async def in_memory(
    verifier: Verifier | None = None, clock: clocks.Clock = clocks.SYSTEM
) -> AsyncIterator[MemoryPlatform]:
    """A platform in this process, with registry, store and config, until the block ends.

    Args:
        verifier: as of `MemoryPlatform`.
        clock: likewise.
    """
    platform = MemoryPlatform(clock, verifier)
    async with contextlib.AsyncExitStack() as stack:
        registry = RegistryService(platform.registry).hosted()
        await stack.enter_async_context(platform.host([registry]))
        kept = await stack.enter_async_context(keeping(platform.broker, platform.events))
        platform.contracts = kept.contracts
        await stack.enter_async_context(platform.host(kept.services, open=True))
        yield platform


@contextlib.asynccontextmanager
async def keeping(broker: Broker, events: Log) -> AsyncIterator[Kept]:
    """The services that keep what services have, in memory, until the block ends.

    Args:
        broker: what carries messages.
        events: what keeps events.
    """
    async with open_store("memory://") as store, open_config(store) as config:
        schemas = Registry(store.table(TABLE, database=PLATFORM))
        yield Kept(
            [
                StoreService(store).hosted(),
                ConfigService(config, trusting=True).hosted(),
                *serving(lambda _: broker, lambda _: events, schemas),
            ],
            LocalContracts(schemas, DEFAULT_NAMESPACE),
        )
        schemas.close()
