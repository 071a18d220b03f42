"""A host at work: a core with accounts on a real lane and engine, and real workers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from microcosmos.auth.access import Access
from microcosmos.auth.client import follow_policy
from microcosmos.auth.keys import platform_token
from microcosmos.auth.topics import authorising
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.broker.nats import NatsBroker
from microcosmos.config.config import open_config
from microcosmos.config.service import ConfigService
from microcosmos.events.nats import NatsLog
from microcosmos.events.schema.registry import TABLE, Registry
from microcosmos.functions.client import RemoteFunctions
from microcosmos.functions.egress.fetch import Fetcher
from microcosmos.functions.egress.serving import open_egress
from microcosmos.functions.host.host import Host
from microcosmos.functions.interface import Draft
from microcosmos.functions.service import FunctionsService
from microcosmos.functions.workers import open_workers
from microcosmos.functions.zygote.client import open_zygote
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Server
from microcosmos.rpc.lane import listen
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import Membership
from microcosmos.service.serving import serving
from microcosmos.store import open_store
from microcosmos.store.service import StoreService

from ...events.engine import Engine
from ..plane import Plane
from ..plane import opened as opened_plane

PROOF = "what the egress shows"


class World:
    """What tests hold.

    Attributes:
        home: where sockets and logs are.
        plane: accounts and functions.
        registry: of all namespaces.
        log: events.
        engine: the nats-server.
        platform: joined as a process of the platform.
    """

    def __init__(
        self,
        home: Home,
        plane: Plane,
        registry: MemoryRegistry,
        log: NatsLog,
        engine: Engine,
        platform: LivePlatform,
    ) -> None:
        self.home = home
        self.plane = plane
        self.registry = registry
        self.log = log
        self.engine = engine
        self.platform = platform

    @property
    def client(self) -> Client:
        """Calls as nobody."""
        return self.platform.client.showing(None)

    async def admin(self) -> RemoteFunctions:
        """The control plane, as the first account."""
        return self.functions(await self.plane.auth.login())

    def functions(self, token: str, platform: LivePlatform | None = None) -> RemoteFunctions:
        """The control plane, as the account of a token."""
        client = (platform or self.platform).client
        return RemoteFunctions(client.showing(lambda: f"Bearer {token}"))

    def joined(self, namespace: str) -> contextlib.AbstractAsyncContextManager[LivePlatform]:
        """Be a process of the platform in a namespace."""
        url = self.engine.url if namespace == "micro" else ""
        membership = Membership(
            nats_url=url, credentials=None, home=self.home, namespace=namespace, host="here"
        )
        token = platform_token(self.plane.auth.keys, "functions")
        return join(membership, "functions", identity=lambda: f"Bearer {token}")

    @contextlib.asynccontextmanager
    async def host(self, fetcher: Fetcher | None = None) -> AsyncIterator[Host]:
        """A host, that knows the functions there are."""
        access = Access()
        async with self.joined("micro") as platform:
            follow = follow_policy(platform.client, access, "", platform.header)
            async with (
                background(follow, "policy"),
                open_egress(self.home, fetcher, PROOF),
                Host(self.home, platform, self.joined, access) as host,
            ):
                await host.known.settle(5)
                await host.settled()
                yield host


@contextlib.asynccontextmanager
async def world(engine: Engine) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        home = Home(stack.enter_context(tempfile.TemporaryDirectory()))
        home.make()
        store = await enter(open_store("memory://"))
        plane = await enter(opened_plane(store))
        config = await enter(open_config(store))
        stack.callback(config.close)
        log = await enter(engine.emptied())
        nc = await enter(engine.connection())
        broker = NatsBroker(nc)
        registry = MemoryRegistry(host="here")
        schemas = Registry(store.table(TABLE))
        access = plane.auth.authority.access
        server = Server(verifier=access)
        badge = platform_token(plane.auth.keys, "core")
        workers = await enter(open_workers(home, lambda: f"Bearer {badge}"))
        functions = FunctionsService(
            plane.catalogue, workers, accounts=plane.auth.authority, proof=PROOF
        )
        for hosted in (
            functions.hosted(),
            plane.auth.service.hosted(),
            StoreService(store).hosted(),
            ConfigService(config).hosted(),
            RegistryService(registry, guarded=True).hosted(),
            *serving(lambda _: broker, lambda _: log, schemas, authorising(access)),
        ):
            server.add(hosted)
        await enter(listen(home.core_lane, server, drain=0.1))
        # First of all: who waits for news is let go.
        for closing in (schemas, registry, plane.auth.authority, plane.catalogue.feed):
            stack.callback(closing.close)
        await enter(open_zygote(home))
        made = World(home, plane, registry, log, engine, None)  # type: ignore[arg-type]
        made.platform = await enter(made.joined("micro"))
        yield made


GREETING = """
async function handler(request) {
  if (request.method !== 'POST') return 'hello'
  return { got: await request.json(), x: request.headers.get('x-note'), path: request.path }
}
"""


def script(name: str, code: str = GREETING, **about: object) -> Draft:
    """A function of one file."""
    return Draft(name=name, files={"index.js": code}, **about)  # type: ignore[arg-type]


def lines(home: Home, name: str) -> str:
    """What is in the log of a function."""
    path: Path = home.logs / f"{name}.0.log"
    return path.read_text() if path.exists() else ""
