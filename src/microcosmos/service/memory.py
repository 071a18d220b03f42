"""A platform in this process: nothing is started, nothing is written."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence

from microcosmos.base import clock as clocks
from microcosmos.registry import Table
from microcosmos.registry.interface import REPLICA
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Hosted, MemoryNetwork, Server

from .records import record


class MemoryPlatform:
    """See `interface.Platform`; a registry service is on it, as on a live one.

    Args:
        clock: where the registry's times come from.
    """

    def __init__(self, clock: clocks.Clock = clocks.SYSTEM) -> None:
        self.table = Table()
        self.registry = MemoryRegistry(clock=clock)
        self.registry.listen(self.table.apply)
        self._network = MemoryNetwork()
        self.client = Client([self._network], self.table)

    @contextlib.asynccontextmanager
    async def host(self, services: Sequence[Hosted]) -> AsyncIterator[None]:
        server = Server(client=self.client)
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


@contextlib.asynccontextmanager
async def in_memory() -> AsyncIterator[MemoryPlatform]:
    """A platform in this process, with its registry, until the block ends."""
    platform = MemoryPlatform()
    async with platform.host([RegistryService(platform.registry).hosted()]):
        yield platform
