"""Platforms for tests: in memory, and on a real NATS."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar, overload

from microcosmos.auth.interface import Account, Rule
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.broker import Messages
from microcosmos.events import Events
from microcosmos.registry import Registry
from microcosmos.rpc import nats as rpc_nats
from microcosmos.service import Platform, Remote, Service
from microcosmos.service.live import join
from microcosmos.service.membership import Membership
from microcosmos.service.memory import in_memory, keeping
from microcosmos.service.remote import remote

from .accounts import Accounts
from .clock import MovingClock
from .engine import nats_server
from .settling import Settling

PATIENCE = 10.0
"""Seconds in which `Bench.settled` wants everything worked off, unless it is told otherwise."""

T = TypeVar("T")


class Bench:
    """A platform with services on it, for one test.

    Attributes:
        platform: what the services run on.
        registry: who is alive.
        accounts: who calls, and who may; None where nobody asks.
        broker: publishes messages and listens to them.
        events: publishes events, and looks at what became of them.
    """

    def __init__(
        self,
        platform: Platform,
        stack: AsyncExitStack,
        accounts: Accounts | None = None,
        clock: MovingClock | None = None,
    ) -> None:
        self.platform = platform
        self.registry: Registry = platform.registry
        self.accounts = accounts
        self.broker = Messages(platform.broker, "test")
        self.events = Events(platform.events, platform.contracts, clock=platform.clock)
        self._stack = stack
        self._clock = clock
        self._services: list[Service] = []

    async def start(self, *services: Service) -> None:
        """Run services until the test ends; afterwards they answer."""
        for service in services:
            await self._stack.enter_async_context(service.on(self.platform))
            self._services.append(service)

    async def settled(self, *, seconds: float = PATIENCE) -> None:
        """Return once the services have worked off what was published, and what came of that.

        Messages are handled, and events done with or among the dead letters. In memory nobody
        waits for a retry: while services only wait for the time, it is put forward.

        Raises:
            TimeoutError: they have not, in so many seconds; the text says what is left.
        """
        await Settling(self.platform, self._clock).settle(self._services, seconds)

    async def advance(self, seconds: float) -> None:
        """Let time pass at once, for events: schedules, retries, TTLs; in memory only."""
        if self._clock is None:
            raise RuntimeError("time is moved on `memory()` only: a nats-server has its own")
        await self._clock.advance(seconds)

    @overload
    def client(self, name: str, *, account: Account | None = None) -> Remote: ...
    @overload
    def client(
        self, name: str, interface: Callable[..., T], *, account: Account | None = None
    ) -> T: ...
    def client(
        self,
        name: str,
        interface: Callable[..., T] | None = None,
        *,
        account: Account | None = None,
    ) -> Remote | T:
        """A service by name; see `microcosmos.Client`.

        Args:
            name: the service's.
            interface: a class with async methods like its endpoints.
            account: who calls; nobody, unless said. On a platform in memory only.
        """
        if account is None:
            return remote(name, interface, lambda: self.platform.client)
        carrier = self.platform.client.showing(self._accounts().showing(account))
        return remote(name, interface, lambda: carrier)

    def allow(self, rules: Iterable[Rule]) -> None:
        """Let these rules, and no others, say from now on who may call; in memory only."""
        self._accounts().allow(rules)

    def _accounts(self) -> Accounts:
        if self.accounts is None:
            raise RuntimeError("accounts are for `memory()`: on NATS the core has them")
        return self.accounts


@contextlib.asynccontextmanager
async def memory() -> AsyncIterator[Bench]:
    """A platform in this process: no process is started, nothing is written."""
    accounts, clock = Accounts(), MovingClock()
    async with in_memory(accounts, clock) as platform, AsyncExitStack() as stack:
        yield Bench(platform, stack, accounts, clock)


@contextlib.asynccontextmanager
async def on_nats(*, lane: bool = True) -> AsyncIterator[Bench]:
    """A platform on a real nats-server of its own, with the registry of a real core.

    Args:
        lane: False sends every call by NATS, as if across hosts.
    """
    # The core has the proxy in it, and gRPC; platforms in memory begin without.
    from microcosmos.server.core import open_core
    from microcosmos.server.topics import Engine

    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="micro-"))
        home = Home(Path(folder))
        home.make()
        url = await stack.enter_async_context(nats_server(Path(folder)))
        nc = await stack.enter_async_context(rpc_nats.connect(url, name="core"))
        engine = Engine(home.server / "keys", durability="the end of any process")
        core = await stack.enter_async_context(open_core(home, nc, topics=engine))
        topics = core.topics_of(DEFAULT_NAMESPACE)
        kept = await stack.enter_async_context(keeping(topics.broker, topics.log))
        await stack.enter_async_context(core.host(kept.services))
        here = Membership(nats_url=url, credentials=None, home=home)
        platform = await stack.enter_async_context(join(here, "test", lane=lane))
        services = await stack.enter_async_context(AsyncExitStack())
        yield Bench(platform, services)
