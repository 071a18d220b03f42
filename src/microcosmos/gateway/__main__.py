"""A gateway process: ``python -m microcosmos.gateway``, started by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator

import msgspec
import uvloop

from microcosmos.auth.access import Access
from microcosmos.auth.client import follow_policy
from microcosmos.auth.credentials import file_of, inbox_prefix
from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import LEAVE, report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.functions.calling import Caller
from microcosmos.functions.client import PlatformFunctions
from microcosmos.functions.counting import counting
from microcosmos.functions.following import Known
from microcosmos.functions.requests import NAME as FUNCTIONS
from microcosmos.functions.workers import open_workers
from microcosmos.service.badge import Badge
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import Membership, inherited

from .app import Gateway
from .doorman import App, Doorman
from .edge import Edge, from_environment
from .entrance import open_entrance
from .front.following import Fronts, open_fronts
from .functions.door import Functions
from .grpcweb import GrpcWeb, open_grpc_web
from .streams.origins import parse
from .worker import Serving, serve
from .worlds import open_worlds

PATIENCE = 5.0
"""Seconds that a gateway waits for the core before it serves without knowing who may call."""

_NAME = "gateway"


async def main() -> None:
    """Serve on the inherited socket until SIGTERM, or until the supervisor is gone.

    `LEAVE` says that a successor serves on that socket.
    """
    listening = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    edge = from_environment()
    here = inherited()
    badge = Badge(here.home.server / "keys", _NAME)
    lane = os.environ.get("MICRO_LANE", "on") != "off"
    async with (
        stop_asked(interrupts=False) as stop,
        join(here, _NAME, lane=lane, identity=badge.header) as platform,
        open_grpc_web(f"unix:{here.home.proxy_socket}") as web,
        open_workers(here.home, badge.header) as workers,
        Caller(workers) as caller,
        Known(platform.client) as functions,
        counting(PlatformFunctions(platform.client).count, _NAME) as unworked,
    ):
        access = Access()
        given = Functions(functions, caller, unworked.failed)
        made = _Gateways(access, web, edge, given)
        gateway = made.gateway(platform)
        async with (
            open_fronts(platform.client, here.home, access) as fronts,
            background(follow_policy(platform.client, access, "", badge.header), "policy"),
            open_worlds(_Opening(here, badge, made, fronts, lane).opened, access) as worlds,
        ):
            with fronts.around(gateway, platform.table) as front:
                doorman = Doorman(front, access, gateway.refuse, worlds.get)
                # Until then connections wait, where a living gateway would have taken them.
                known = asyncio.create_task(_known(platform, access, functions), name="known")
                stopping = asyncio.create_task(stop.wait(), name="stopping")
                await asyncio.wait(
                    (known, stopping), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
                )
                async with (
                    open_entrance(edge, front, doorman) as app,
                    serve(
                        app,
                        listening,
                        tls=edge.tls,
                        http2=edge.speaks_http2,
                        websockets=True,
                        give_up=made.give_up,
                    ) as serving,
                    background(_ready(gateway, known), "ready"),
                    background(_leave_when_asked(serving, stop), "leaving"),
                ):
                    await stopping
                    await made.end_streams()


class _Gateways:
    """The gateways of this process, one for each namespace."""

    def __init__(self, access: Access, web: GrpcWeb, edge: Edge, functions: Functions) -> None:
        self._access = access
        self._functions = functions
        self._web = web
        self._origins = parse(edge.allowed_origins)
        self._made: list[Gateway] = []

    def gateway(self, platform: LivePlatform) -> Gateway:
        """One for the namespace of a platform."""
        made = Gateway(
            platform.client,
            platform.table,
            grpc_web=self._web,
            access=self._access,
            namespace=platform.membership.namespace,
            origins=self._origins,
            functions=self._functions,
        )
        self._made.append(made)
        return made

    def forget(self, gateway: Gateway) -> None:
        """Its namespace is gone."""
        self._made.remove(gateway)

    def give_up(self) -> None:
        """When the time to drain is over: as of each gateway."""
        for gateway in self._made:
            gateway.give_up()

    async def end_streams(self) -> None:
        """Before the process stops: as of each gateway."""
        await asyncio.gather(*(gateway.end_streams() for gateway in self._made))


class _Opening:
    """Opens what answers for other namespaces."""

    def __init__(
        self, here: Membership, badge: Badge, made: _Gateways, fronts: Fronts, lane: bool
    ) -> None:
        self._here = here
        self._badge = badge
        self._made = made
        self._fronts = fronts
        self._lane = lane

    @contextlib.asynccontextmanager
    async def opened(self, namespace: str) -> AsyncIterator[App]:
        """The gateway of a namespace, with its policies, until the block ends."""
        there = _member(self._here, namespace)
        identity = self._badge.header
        async with join(there, _NAME, lane=self._lane, identity=identity) as platform:
            gateway = self._made.gateway(platform)
            try:
                with self._fronts.around(gateway, platform.table, namespace) as front:
                    await platform.followed.wait()
                    gateway.ready = True
                    yield front
                    await gateway.end_streams(0)
            finally:
                self._made.forget(gateway)


def _member(here: Membership, namespace: str) -> Membership:
    """What this process is to another namespace than its own.

    Raises:
        errors.Unavailable: the namespace has no account of the engine yet.
    """
    there = msgspec.structs.replace(here, namespace=namespace)
    if not here.nats_url:
        return there
    if not here.inbox_prefix:
        # An engine of somebody else has one account: nothing of other namespaces is on it.
        return msgspec.structs.replace(there, nats_url="")
    credentials = file_of(here.home.server / "keys", _NAME, namespace)
    if not credentials.exists():
        raise errors.Unavailable("gateway", f"the namespace {namespace} is not ready yet")
    return msgspec.structs.replace(there, credentials=credentials, inbox_prefix=inbox_prefix(_NAME))


async def _known(platform: LivePlatform, access: Access, functions: Known) -> None:
    """Wait until the registry has been read, and it is known who may call, and which functions."""
    governed = asyncio.Event()
    access.on_change(lambda _: governed.set())
    if access.policy is None:
        await governed.wait()
    await platform.followed.wait()
    if platform.table.knows(FUNCTIONS):
        # Without them everything else can be answered.
        with contextlib.suppress(errors.Unavailable):
            await functions.settle(PATIENCE)


async def _ready(gateway: Gateway, known: asyncio.Task[None]) -> None:
    """Say ready once enough is known."""
    await known
    gateway.ready = True
    report_ready()


async def _leave_when_asked(serving: Serving, stop: asyncio.Event) -> None:
    """Let a successor have the clients, then stop."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(LEAVE, asked.set)
    await asked.wait()
    await serving.leave()
    stop.set()


def _allow_many_files() -> None:
    """A WebSocket takes two, and the usual limit is 1,024 unless somebody asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the kernel has a limit of its own below it, as on macOS, what there is has to do.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    log.setup()
    _allow_many_files()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"gateway: {error.detail}")
