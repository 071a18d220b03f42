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
from microcosmos.registry import Registry
from microcosmos.rpc import nats as rpc_nats
from microcosmos.server.core import open_core
from microcosmos.server.topics import Engine
from microcosmos.service import Platform, Remote, Service
from microcosmos.service.live import join
from microcosmos.service.membership import Membership
from microcosmos.service.memory import in_memory, keeping
from microcosmos.service.remote import remote

from .accounts import Accounts
from .engine import nats_server

T = TypeVar("T")


class Bench:
    """A platform with services on it, for one test.

    Attributes:
        platform: what the services run on.
        registry: who is alive.
        accounts: who calls, and who may; None where nobody asks.
    """

    def __init__(
        self, platform: Platform, stack: AsyncExitStack, accounts: Accounts | None = None
    ) -> None:
        self.platform = platform
        self.registry: Registry = platform.registry
        self.accounts = accounts
        self._stack = stack

    async def start(self, *services: Service) -> None:
        """Run services until the test ends; afterwards they answer."""
        for service in services:
            await self._stack.enter_async_context(service.on(self.platform))

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
    accounts = Accounts()
    async with in_memory(accounts) as platform, AsyncExitStack() as stack:
        yield Bench(platform, stack, accounts)


@contextlib.asynccontextmanager
async def on_nats(*, lane: bool = True) -> AsyncIterator[Bench]:
    """A platform on a real nats-server of its own, with the registry of a real core.

    Args:
        lane: False sends every call by NATS, as if across hosts.
    """
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
