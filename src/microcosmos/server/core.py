"""The core process: auth, registry, store, runtime and the gRPC proxy; started by the supervisor.

It may die and come back at any moment: services, gateways and functions go on without it, and
find it again by its socket and by NATS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import uvloop
from nats.aio.client import Client as NatsClient

from microcosmos.auth import passwords
from microcosmos.auth.access import Access
from microcosmos.auth.authority import Authority
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.service import AuthService
from microcosmos.auth.topics import authorising
from microcosmos.base import collector, errors, log, names, profiles
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.lifespan import report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.config.config import open_config
from microcosmos.config.keys import Keys
from microcosmos.config.keys import from_environment as keys_of_secrets
from microcosmos.config.service import ConfigService
from microcosmos.events.interface import Draft as Event
from microcosmos.events.nats import NatsLog
from microcosmos.events.schema.registry import TABLE as SCHEMAS
from microcosmos.events.schema.registry import Registry
from microcosmos.functions.catalogue import Catalogue
from microcosmos.functions.conflicts import Services
from microcosmos.functions.egress.told import KEY
from microcosmos.functions.invoking import ByGateway
from microcosmos.functions.service import FunctionsService
from microcosmos.functions.workers import open_workers
from microcosmos.gateway.front.blocklist import TABLE, ApiService
from microcosmos.gateway.schemas.service import SchemasDoor, by_passwords
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.monitor.ledger.service import LedgerService
from microcosmos.proxy import debug, tls
from microcosmos.proxy.numbers import Numbers
from microcosmos.proxy.server import serve_proxy
from microcosmos.proxy.worlds import World as Seen
from microcosmos.registry import Result, Table, this_host
from microcosmos.registry.memory import MemoryRegistry, domain_of
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Hosted, Server
from microcosmos.rpc.client import Identity
from microcosmos.rpc.lane import LaneTransport, listen
from microcosmos.rpc.one_socket import OneSocket
from microcosmos.rpc.server import Verifier
from microcosmos.runtime.processes import ProcessRuntime
from microcosmos.runtime.service import RuntimeService
from microcosmos.runtime.settings import Settings
from microcosmos.service.badge import Badge
from microcosmos.service.serving import serving
from microcosmos.store import PLATFORM, Store, open_store
from microcosmos.store.service import StoreService

from . import exposure
from .connections import Connections
from .control import SERVICE as SUPERVISOR
from .control import SupervisorClient
from .first_admin import FirstAdmin
from .mending import Mending, end_engine
from .namespaces import Namespaces
from .promises import DURABILITY, FOREIGN
from .replicas import Replicas
from .tidying import keep_tidy
from .topics import REPLICAS, Engine, Opener, Topics, in_memory
from .world import DRAIN, World, open_world

logger = logging.getLogger("microcosmos.core")

OPENING = 10.0
"""Seconds that are waited for a namespace that has only just been made."""


class Core:
    """What the core is made of, tied together.

    Attributes:
        registry: of all namespaces.
        worlds: the namespaces that are open.

    Args:
        home: where its socket is.
        host: the name of this host among those of a cluster; its own unless said.
        connections: the engine's accounts; without them there is one namespace.
        verifier: says who calls; without one everybody may do everything.
        identity: what the core's own calls show.
        topics: opens the messages and events of a namespace; unless said they are in memory.
    """

    def __init__(
        self,
        home: Home,
        host: str = "",
        connections: Connections | None = None,
        verifier: Verifier | None = None,
        identity: Identity | None = None,
        topics: Opener = in_memory,
    ) -> None:
        self.home = home
        self.name = host or this_host()
        self.node = str(uuid.uuid4())
        self.registry = MemoryRegistry(host=self.name)
        self.registry.listen(self._changed)
        self.worlds: dict[str, World] = {}
        self.server = Server(verifier=verifier)
        self._connections = connections
        self._verifier = verifier
        self._identity = identity
        self._topics = topics
        self._open: dict[str, AsyncExitStack] = {}
        self._opened = asyncio.Condition()
        self._groups: list[Sequence[Hosted]] = []

    @property
    def client(self) -> Client:
        """Calls the services of namespace ``micro``."""
        return self.worlds[DEFAULT_NAMESPACE].client

    @property
    def table(self) -> Table:
        """The services of namespace ``micro``."""
        return self.worlds[DEFAULT_NAMESPACE].table

    def _changed(self, result: Result) -> None:
        if world := self.worlds.get(domain_of(result.service)):
            world.table.apply(result)

    async def open(self, namespace: str, nc: NatsClient | None = None) -> World:
        """Live in a namespace from now on, on a connection that is given or is made."""
        async with AsyncExitStack() as stack:
            if nc is None and self._connections is not None:
                nc = await stack.enter_async_context(self._connections.open(namespace))
            topics = await stack.enter_async_context(self._topics(namespace, nc))
            world = await stack.enter_async_context(
                open_world(
                    namespace,
                    self.home,
                    self.name,
                    self.node,
                    self.registry,
                    nc,
                    topics,
                    verifier=self._verifier,
                    identity=self._identity,
                )
            )
            self.worlds[namespace] = world
            stack.callback(self.worlds.pop, namespace, None)
            for services in self._groups:
                await world.host(services)
            self._open[namespace] = stack.pop_all()
        async with self._opened:
            self._opened.notify_all()
        return world

    async def close(self, namespace: str) -> None:
        """Live in a namespace no more."""
        if stack := self._open.pop(namespace, None):
            await stack.aclose()

    async def world(self, namespace: str) -> World:
        """A namespace, waited for if it is about to be opened.

        Raises:
            errors.Unavailable: it is not, in time.
        """
        try:
            async with asyncio.timeout(OPENING), self._opened:
                await self._opened.wait_for(lambda: namespace in self.worlds)
        except TimeoutError:
            detail = f"namespace {namespace} is not open on the engine; the log of the core has why"
            raise errors.Unavailable("core", detail) from None
        return self.worlds[namespace]

    @asynccontextmanager
    async def host(self, services: Sequence[Hosted]) -> AsyncIterator[None]:
        """Answer for services, in every namespace, until the block ends."""
        for hosted in services:
            if hosted.name not in self.server.services:
                self.server.add(hosted)
        self._groups.append(services)
        for world in [*self.worlds.values()]:
            await world.host(services)
        try:
            yield
        finally:
            self._groups.remove(services)
            leaving = (world.leave(services) for world in [*self.worlds.values()])
            await asyncio.gather(*leaving)

    def topics_of(self, namespace: str) -> Topics:
        """The messages and events of a namespace.

        Raises:
            errors.NotFound: it is not open.
        """
        if world := self.worlds.get(namespace):
            return world.topics
        raise errors.NotFound("core", f"namespace {namespace} is not open")

    def kept(self) -> list[NatsLog]:
        """The events of all namespaces, as far as the engine keeps them."""
        logs = (world.topics.kept for world in self.worlds.values())
        return [log for log in logs if isinstance(log, NatsLog)]

    def access_of(self, service: str, endpoint: str) -> str | None:
        """What an endpoint of the core's own asks of who calls it; None if there is none."""
        hosted = self.server.services.get(service)
        found = hosted.endpoints.get(endpoint) if hosted else None
        return found.access if found else None


async def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    home = Home()
    profile = profiles.load()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stop = await enter(stop_asked(interrupts=False))
        url = profiles.placed(os.environ.get("MICRO_STORE_URL") or profile.store, home.server)
        store = await enter(open_store(url))
        # The platform's own records are where no service gets.
        own = store.table(database=PLATFORM)
        tokens = TokenKeys(home.server / "keys")
        password = passwords.from_environment(os.environ)
        authority = await enter(Authority(own, tokens, admin_password=password))
        authority.listen(lambda _: exposure.keep(home, authority.default_password_stands()))
        exposure.settle(authority.default_password_stands())
        access = Access()
        authority.listen(access.follow)
        connections = Connections(home.server / "keys")
        badge = Badge(home.server / "keys", "core")
        durability = DURABILITY[os.environ["MICRO_DURABILITY"]] if connections.walled else FOREIGN
        kept = 1 if connections.walled else REPLICAS
        engine = Engine(home.server / "keys", durability=durability, replicas=kept)
        core = Core(home, "", connections, access, badge.header, engine)
        # Until all are there, in every namespace, nobody is told that one of them is not.
        core.server.growing = True
        replicas = Replicas(home, core.world, connections, authority, core.name)
        keys = keys_of_secrets(home, profile)
        ledger = Ledger(own)
        runtime, catalogue = _deploying(core, own, replicas, keys, ledger)
        await enter(_running(core, guarded=True, taken=catalogue.taken))
        await enter(runtime)
        await catalogue.tidy()
        await enter(catalogue.allotments)
        workers = await enter(open_workers(home, badge.header))
        functions = FunctionsService(
            catalogue,
            workers,
            accounts=authority,
            logs=runtime.logfiles,
            invoke=ByGateway(home),
            replays=workers.replay,
            audit=authority.audit,
            proof=os.environ.pop(KEY, ""),
        )
        authority.before_delete(_emptied(runtime, catalogue))
        api = ApiService(own.table(TABLE))
        schemas = Registry(own.table(SCHEMAS))
        config = await enter(open_config(store, keys, sharers=[catalogue.secrets]))
        hosted = [
            functions.hosted(),
            AuthService(authority, core.access_of).hosted(),
            RuntimeService(runtime, authority.audit).hosted(),
            StoreService(store, authority.audit).hosted(),
            ConfigService(config, audit=authority.audit).hosted(),
            LedgerService(ledger, _owner(runtime)).hosted(),
            api.hosted(),
            *_of_topics(core, schemas, authority, access),
        ]
        await enter(core.host(hosted))
        # First of all when the core stops, as the registry's watchers.
        stack.callback(api.close)
        stack.callback(schemas.close)
        stack.callback(config.close)
        stack.callback(catalogue.feed.close)
        stack.callback(authority.close)
        await enter(background(keep_tidy(store), "tidying"))
        forget = partial(_forget, connections, engine, schemas)
        clear = partial(_cleared, runtime, functions, ledger)
        namespaces = Namespaces(core, connections, clear, forget)
        authority.listen(namespaces.follow)
        await namespaces.settle()
        catalogue.allotments.publishing(partial(_warn, core))
        core.server.growing = False
        await enter(background(namespaces.keep(), "namespaces"))
        if connections.walled:
            end = partial(end_engine, home)
            mending = Mending(home.server / "nats", core.kept, end)
            await enter(background(mending.keep(), "mending"))
        await enter(_proxied(core, own, authority, access))
        logger.info("core answers, profile %s", profile.name)
        report_ready()
        await stop.wait()


@asynccontextmanager
async def _proxied(
    core: Core, store: Store, authority: Authority, access: Access
) -> AsyncIterator[None]:
    """The gRPC proxy, which serves until the block ends."""
    seen = await _seen(core, store, DEFAULT_NAMESPACE)
    async with serve_proxy(
        os.environ.get("MICRO_PROXY_ADDRESS", "127.0.0.1:8081"),
        seen.client,
        seen.table,
        numbers=seen.numbers,
        tls=tls.from_environment(core.home.server / "proxy-tls"),
        socket=core.home.proxy_socket,
        schemas=seen.schemas,
        stats=seen.stats,
        access=access,
        worlds=partial(_seen, core, store),
        admin=FirstAdmin(authority).header,
    ):
        yield


@asynccontextmanager
async def open_core(
    home: Home, nc: NatsClient | None, host: str = "", topics: Opener = in_memory
) -> AsyncIterator[Core]:
    """Run what every core has, a registry, for one namespace and without accounts.

    Args:
        home: where its socket is.
        nc: the engine, if there is one.
        host: the name of this host among those of a cluster; its own unless said.
        topics: as of `Core`.
    """
    core = Core(home, host, topics=topics)
    async with _running(core, nc):
        yield core


@asynccontextmanager
async def _running(
    core: Core,
    nc: NatsClient | None = None,
    *,
    guarded: bool = False,
    taken: names.Taken = names.nobody,
) -> AsyncIterator[None]:
    """Run a core, with a registry that answers on its lane and on NATS, until the block ends."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_close_all, core)
        await core.open(DEFAULT_NAMESPACE, nc)
        core.server.client = core.client
        registry = RegistryService(
            core.registry, guarded=guarded, taken=taken, growing=lambda: core.server.growing
        ).hosted()
        core.server.add(registry)
        # The lane first: a stream that came by NATS would not see at once that a core has died.
        await stack.enter_async_context(listen(core.home.core_lane, core.server, drain=DRAIN))
        await stack.enter_async_context(core.host([registry]))
        # First of all when the core stops: who waits for news is let go.
        stack.callback(core.registry.close)
        yield


def _emptied(
    runtime: ProcessRuntime, catalogue: Catalogue
) -> Callable[[str, bool], Awaitable[None]]:
    """Sees that nothing runs in a namespace that is about to go."""

    async def empty(namespace: str, forced: bool) -> None:
        running = await runtime.read(namespace=namespace)
        found = [one.name for one in running]
        found += [one.name for one in await catalogue.page(namespace)]
        if found and not forced:
            names = ", ".join(found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            away = "kill them" if running else "delete them (micro functions delete)"
            detail = f"{names}{more} run in {namespace}; {away} first, or use --force"
            raise errors.Conflict("runtime", detail)
        await runtime.clear(namespace)

    return empty


def _owner(runtime: ProcessRuntime) -> Callable[[str, str], Awaitable[str | None]]:
    """Says which account a service was deployed by."""

    async def owner(namespace: str, name: str) -> str | None:
        try:
            (deployed,) = await runtime.read(name, namespace)
        except errors.NotFound:
            return None
        return deployed.owner

    return owner


def _of_topics(core: Core, schemas: Registry, authority: Authority, access: Access) -> list[Hosted]:
    """What serves messages, events and their schemas."""
    authorise, audit = authorising(access), authority.audit
    passwords = by_passwords(authority.logins)
    return [
        *serving(
            lambda namespace: core.topics_of(namespace).broker,
            lambda namespace: core.topics_of(namespace).log,
            schemas,
            authorise,
            audit,
        ),
        SchemasDoor(schemas, access, authorise, login=passwords, audit=audit).hosted(),
    ]


async def _cleared(
    runtime: ProcessRuntime, functions: FunctionsService, ledger: Ledger, namespace: str
) -> None:
    """Remove what was deployed in a namespace that is no more."""
    await runtime.clear(namespace)
    await functions.clear(namespace)
    await ledger.clear(namespace)


async def _forget(
    connections: Connections, engine: Engine, schemas: Registry, namespace: str
) -> None:
    """Remove the events of a namespace that is no more, and what was said of them."""
    async with connections.open(namespace) as nc:
        if nc is not None:
            await engine.log(nc).destroy()
    await schemas.clear(namespace)


async def _close_all(core: Core) -> None:
    for namespace in [*core.worlds]:
        await core.close(namespace)


async def _seen(core: Core, store: Store, namespace: str) -> Seen:
    """A namespace as the proxy sees it."""
    world = await core.world(namespace)
    return Seen(
        world.client,
        world.table,
        numbers=await _numbers(store, namespace),
        schemas=partial(core.registry.describe, domain=namespace),
        stats=debug.by_nats(world.nc) if world.nc is not None else None,
    )


async def _numbers(store: Store, namespace: str) -> Numbers:
    """The numbers of protobuf fields that were ever published."""
    numbers = Numbers(store, namespace)
    try:
        await numbers.load()
    except errors.Error as exc:
        # They are read when they are needed; what is published meanwhile is not made up.
        logger.warning("the numbers of protobuf fields could not be read yet: %s", exc.detail)
    return numbers


async def _warn(core: Core, namespace: str, topic: str, payload: bytes, id: str) -> None:
    """Publish an event of the platform's own.

    Raises:
        errors.Error: the namespace is not open, or the engine is away.
    """
    await core.topics_of(namespace).log.publish(Event(topic, payload, id=id))


def _deploying(
    core: Core, store: Store, replicas: Replicas, keys: Keys, ledger: Ledger
) -> tuple[ProcessRuntime, Catalogue]:
    """The runtime, with the supervisor as the owner of its processes, and the functions.

    Neither takes a name that the other has.
    """
    socket = OneSocket(SUPERVISOR, core.home.supervisor_lane)
    spawner = SupervisorClient(Client([LaneTransport(socket)], socket))
    runtime = ProcessRuntime(
        core.home,
        store,
        core.registry,
        spawner,
        replicas,
        settings=Settings(reserved=names.RESERVED),
        taken=lambda namespace, name: catalogue.taken(namespace, name),
    )
    others = Services(runtime, core.registry).others
    catalogue = Catalogue(store, keys, others=others, ledger=ledger)
    return runtime, catalogue


if __name__ == "__main__":
    log.setup()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"core: {error.detail}")
