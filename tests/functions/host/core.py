"""The core's services over a real store, with real accounts, as functions use them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from microcosmos.auth.topics import authorising
from microcosmos.broker.memory import MemoryBroker
from microcosmos.config.config import open_config
from microcosmos.config.service import ConfigService
from microcosmos.events.memory import MemoryLog
from microcosmos.events.schema.registry import TABLE, Registry
from microcosmos.rpc import Client, Hosted, Server
from microcosmos.service.serving import serving
from microcosmos.store import open_store
from microcosmos.store.service import StoreService

from ..plane import Plane
from ..plane import opened as opened_plane


class Core:
    """What tests hold.

    Attributes:
        plane: accounts and functions.
        log: events.
        broker: messages.
    """

    def __init__(self, plane: Plane, log: MemoryLog, broker: MemoryBroker) -> None:
        self.plane = plane
        self.log = log
        self.broker = broker

    async def client(self, namespace: str) -> Client:
        """What calls in a namespace, as a process of the platform unless it shows another."""
        return self.plane.badge.own() if namespace == "micro" else self.plane.calling("", namespace)

    def serve(self, *services: Hosted) -> None:
        """Have more services, deployed ones."""
        server = Server(verifier=self.plane.auth.authority.access)
        for hosted in services:
            server.add(hosted)
        self.plane.network.join(server)


@contextlib.asynccontextmanager
async def core() -> AsyncIterator[Core]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(open_store("memory://"))
        plane = await enter(opened_plane(store))
        config = await enter(open_config(store))
        log, broker = MemoryLog(), MemoryBroker()
        stack.callback(config.close)
        made = Core(plane, log, broker)
        schemas = Registry(store.table(TABLE))
        stack.callback(schemas.close)
        authorise = authorising(plane.auth.authority.access)
        made.serve(
            StoreService(store).hosted(),
            ConfigService(config).hosted(),
            *serving(lambda _: broker, lambda _: log, schemas, authorise),
        )
        yield made
