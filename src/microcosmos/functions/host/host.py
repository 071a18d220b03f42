"""The host: all that decides where functions run, and all that does for them what they ask."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from types import TracebackType
from typing import cast

import msgspec

from microcosmos.auth.access import Access
from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.functions import wire
from microcosmos.functions.bundling import Bundler
from microcosmos.functions.calling import Caller
from microcosmos.functions.client import PlatformFunctions
from microcosmos.functions.counting import Unworked
from microcosmos.functions.egress.client import EgressClient
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Language, Live, Unit
from microcosmos.functions.lines import Lines
from microcosmos.functions.requests import Invoked
from microcosmos.functions.wasm import compiled
from microcosmos.functions.workers import (
    Bundle,
    Bundling,
    Place,
    Replaying,
    Suspicion,
    Verdict,
    Where,
    WorkersService,
)
from microcosmos.functions.zygote.client import ZygoteClient
from microcosmos.rpc import Client
from microcosmos.rpc.lane import listen
from microcosmos.service.live import LivePlatform

from .asked import Asked, Send, Slots
from .bindings import Bindings
from .blaming import Blaming
from .door import Door, NamespaceDoor
from .logs import FunctionLogs
from .namespace import FunctionsOf, open_namespace
from .notes import NoteTaker
from .passes import Passes
from .placement import QUARANTINE, Placement
from .replaying import Replays
from .running import Runner
from .worlds import Worlds

log = logging.getLogger("microcosmos.functions")

DRAIN = 10.0
"""Seconds that calls under way have when the host stops."""

LAST_NOTES = 3.0
"""Seconds that workers have then to finish, and to tell what has not been counted yet."""

UNIT_PATIENCE = 5.0
"""Seconds for which a version is asked for again while the core is being started again."""

_UNIT_PAUSE = 0.05

Join = Callable[[str], AbstractAsyncContextManager[LivePlatform]]
"""Joins a namespace, as one of the platform's own processes."""


class Host:
    """Used as ``async with``; entered, it answers on its lane.

    Attributes:
        known: the functions there are.
        egress: does their sub-requests.

    Args:
        home: where its sockets and the logs are.
        platform: joined in the namespace ``micro``.
        join: joins others.
        access: who may call functions; None lets everybody.
        environ: how lines of logs are written.
    """

    def __init__(
        self,
        home: Home,
        platform: LivePlatform,
        join: Join,
        access: Access | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._home = home
        self._platform = platform
        self._join = join
        self._access = access
        self._node = _node(home, platform.membership.host)
        core = PlatformFunctions(platform.client)
        self.known = Known(platform.client)
        self.egress = EgressClient(home.egress_lane)
        self._logs = FunctionLogs(home.logs, environ.get("MICRO_LOG_FORMAT", "plain"))
        self._passes = Passes(core.grant)
        self._bindings = Bindings(self._client, self._passes)
        self._core = core
        self._lines = Lines()
        self._zygote = ZygoteClient(
            home.zygote_socket, {"wasm": partial(compiled.ahead, home.server / "wasm")}
        )
        self._blaming = Blaming(core, self._logs)
        self._placement = Placement(
            self._zygote,
            self._lines,
            self._unit,
            asking=self._asked,
            tell=self.tell,
            blame=self._blaming.blame,
        )
        self._notes = NoteTaker(self._logs, core.count, self._placement.noted)
        self._bundler = Bundler(home.server / "packages")
        self._caller = Caller(self._placement, self._lines)
        self._unworked = Unworked(core.count, "host")
        self._runner = Runner(self._caller, self.known.get, self._unworked.failed)
        self._replays = Replays(self._caller, self.known.get)
        self._names: dict[str, set[str]] = {DEFAULT_NAMESPACE: set()}
        self._doors: dict[str, NamespaceDoor] = {}
        self._worlds: Worlds[FunctionsOf] = Worlds(self._opened, self._entered)
        self._door = Door(access, self._door_of)
        self._door.add(WorkersService(self).hosted())
        self._tidying: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._resting = False

    async def __aenter__(self) -> Host:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            stack.callback(self._logs.close)
            stack.callback(self._blaming.close)
            await enter(self.egress)
            await enter(self._zygote)
            await enter(self._lines)
            await enter(self._placement)
            await enter(background(self._notes.keep(), "logs"))
            await enter(background(self._unworked.keep(), "counting"))
            # Until the workers have ended they may use bindings, which the namespaces are for.
            stack.push_async_callback(self._worlds.close)
            stack.push_async_callback(self._last_notes)
            await enter(self._caller)
            await enter(self.known)
            await enter(listen(self._home.functions_lane, self._door, drain=DRAIN))
            # First of all to end: events and calls by NATS, which only make work.
            stack.push_async_callback(self._rest)
            self._worlds.want(DEFAULT_NAMESPACE)
            self.known.listen(self._changed)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tidying:
            task.cancel()
        await self._stack.aclose()

    async def settled(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Wait until the functions of a namespace are services and consumers as they want to be."""
        await (await self._worlds.get(namespace)).settled()

    # What the host is asked by gateways and the core: see `workers.Workers`.

    async def place(self, where: Where) -> list[Place]:
        """See `workers.Workers.place`."""
        return await self._placement.place(where)

    async def check(self, source: wire.Source) -> wire.Checked:
        """See `workers.Workers.check`."""
        return await self._placement.check(source)

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        """See `workers.Workers.suspect`."""
        return await self._placement.suspect(suspicion)

    async def replay(self, replaying: Replaying) -> Invoked:
        """See `workers.Workers.replay`."""
        return await self._replays.run(replaying)

    async def bundle(self, bundling: Bundling) -> Bundle:
        """See `workers.Workers.bundle`."""
        language = cast("Language", bundling.language)
        made = await self._bundler.bundle(bundling.files, bundling.main, language)
        return Bundle(code=made.code, findings=[*made.findings])

    # What workers ask of the host: see `asked.Offers`.

    async def use(self, unit: Unit, use: wire.Use) -> bytes:
        """See `asked.Offers.use`."""
        return await self._bindings.use(unit, use)

    async def note(self, worker: str, slots: Slots, notes: wire.Notes) -> None:
        """See `asked.Offers.note`."""
        await self._notes.take(worker, slots, notes)

    def forget(self, worker: str) -> None:
        """See `asked.Offers.forget`."""
        self._notes.forget(worker)

    def tell(self, unit: Unit, level: str, text: str, trace: str) -> None:
        """See `asked.Offers.tell`."""
        self._logs.write(unit.namespace, unit.name, level, text, trace=trace)

    def _asked(self, send: Send, slots: Slots, worker: str) -> Asked:
        return Asked(send, slots, worker, self)

    async def _unit(self, where: Where) -> Unit:
        """All that is needed to run a version, from a core that may be being started again."""
        until = time.monotonic() + UNIT_PATIENCE
        while True:
            try:
                unit = await self._core.unit(where.namespace, where.name, where.number)
                if where.replay is not None:
                    unit = msgspec.structs.replace(unit, key=where.key, replay=where.replay)
                return unit
            except errors.Error as error:
                if not _is_away(error) or time.monotonic() > until:
                    raise
            await asyncio.sleep(_UNIT_PAUSE)

    async def _client(self, namespace: str) -> Client:
        return (await self._worlds.get(namespace)).client

    # Functions as they come and go.

    def _changed(self, namespace: str, name: str, live: Live | None) -> None:
        """A function has changed, is new, or is no more."""
        self._placement.changed(namespace, name, live)
        names = self._names.setdefault(namespace, set())
        if live is not None:
            names.add(name)
            self._worlds.want(namespace)
        else:
            names.discard(name)
            self._passes.forget(namespace, name)
            self._logs.forget(namespace, name)
        world = self._worlds[namespace]
        if world is not None and not self._resting:
            world.follow(name, live)
        if not names and namespace != DEFAULT_NAMESPACE:
            del self._names[namespace]
            self._doors.pop(namespace, None)
            self._worlds.drop(namespace)

    def _door_of(self, namespace: str) -> NamespaceDoor | None:
        """What answers calls to the functions of a namespace, if it has any."""
        if namespace not in self._names:
            return None
        door = self._doors.get(namespace)
        if door is None:
            door = self._doors[namespace] = NamespaceDoor(
                namespace,
                self._runner,
                lambda name: self.known.get(namespace, name) is not None,
                verifier=self._access,
                client=self._platform.client,
            )
        return door

    @contextlib.asynccontextmanager
    async def _opened(self, namespace: str) -> AsyncIterator[FunctionsOf]:
        """A namespace, with its functions, until the block ends."""
        async with AsyncExitStack() as stack:
            platform = self._platform
            if namespace != DEFAULT_NAMESPACE:
                platform = await stack.enter_async_context(self._join(namespace))
            door = self._door_of(namespace)
            if door is None:
                raise errors.NotFound("functions", f"there is no function in {namespace}")
            yield await stack.enter_async_context(
                open_namespace(
                    platform,
                    self._runner,
                    self._passes,
                    node=self._node,
                    door=door,
                    tell=lambda *said: self._logs.write(namespace, *said),
                )
            )

    def _entered(self, namespace: str, world: FunctionsOf) -> None:
        if self._resting:
            return
        for name in self._names.get(namespace, ()):
            world.follow(name, self.known.get(namespace, name))
        task = asyncio.create_task(self._tidy(namespace, world), name="tidying")
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def _tidy(self, namespace: str, world: FunctionsOf) -> None:
        """Remove what functions have left that went while no host was there."""
        await self.known.ready.wait()
        try:
            await world.tidy(lambda name: self.known.get(namespace, name))
        except errors.Error as error:
            log.info("schedules of functions are not looked through: %s", error.detail)

    async def _rest(self) -> None:
        """Make no more work."""
        self._resting = True
        await asyncio.gather(*(world.rest() for world in self._worlds))

    async def _last_notes(self) -> None:
        """Let the workers end, which do first what was to be done after answers, and tell all."""
        workers = self._placement.workers
        for worker in workers:
            worker.retiring = True
            worker.line.retire()
        if ending := [worker.line.ended for worker in workers if not worker.line.ended.done()]:
            await asyncio.wait(ending, timeout=LAST_NOTES)
        await self._unworked.last()


def _is_away(error: errors.Error) -> bool:
    """Whether the core cannot answer just now; one that starts does not know its services yet."""
    if isinstance(error, errors.NotFound):
        return error.id == "rpc"
    return isinstance(error, errors.Unavailable) and error.id not in _OF_VERSIONS


_OF_VERSIONS = frozenset(("functions.secret", QUARANTINE))
"""What the core says of versions that cannot be run."""


def _node(home: Home, host: str) -> str:
    """What this host is called as a replica: the same after it was started anew."""
    return hashlib.sha256(f"{host} {home.path}".encode()).hexdigest()[:32]
