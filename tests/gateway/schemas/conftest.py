"""The registry's door behind a gateway, and clients of Confluent's that use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.auth.topics import authorising, open_to_all
from microcosmos.base import errors
from microcosmos.events.schema.registry import Registry
from microcosmos.gateway.doorman import Doorman
from microcosmos.gateway.schemas.service import SchemasDoor
from microcosmos.store import open_store
from microcosmos.testing import Bench

from ..conftest import Site, open_site

ADA = Account(id="ada", scopes=("service",))
"""Publishes; she administers nothing."""

EVE = Account(id="eve")
"""May read."""

ROOT = Account(id="root", scopes=("admin",))

WHO = {one.id: one for one in (ADA, EVE, ROOT)}


class Front:
    """A gateway with the registry behind it.

    Attributes:
        site: the gateway.
        registry: what is behind it.
        url: what Confluent's clients are given.
        logins: how often somebody logged in by a password.
    """

    def __init__(self, site: Site, registry: Registry) -> None:
        self.site = site
        self.registry = registry
        self.url = f"http://127.0.0.1:{site.port}/schemas"
        self.logins = 0

    def token(self, account: Account) -> str:
        accounts = self.site.bench.accounts
        assert accounts is not None
        return accounts.token(account)

    async def login(self, namespace: str, id: str, password: str, address: str) -> str:
        """The password of everybody is the id and ``-secret``."""
        self.logins += 1
        assert address == "127.0.0.1"
        if id not in WHO or password != f"{id}-secret":
            raise errors.Unauthorized("auth", "wrong id or secret")
        return self.token(WHO[id])


@contextlib.asynccontextmanager
async def open_front(bench: Bench, *, guarded: bool = False) -> AsyncIterator[Front]:
    """Open one until the block ends; guarded, it asks who may."""
    accounts = bench.accounts
    assert accounts is not None
    access = accounts.access if guarded else None
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store("memory://"))
        registry = Registry(store)
        stack.callback(registry.close)

        def wrap(gateway: object) -> Doorman:
            return Doorman(gateway, access or Access(), _refused(gateway), _no_worlds)  # type: ignore[arg-type]

        about = {"wrap": wrap, "access": access} if guarded else {}
        site = await stack.enter_async_context(open_site(bench, **about))
        front = Front(site, registry)
        door = SchemasDoor(
            registry,
            access,
            authorising(access) if access else open_to_all,
            login=front.login if guarded else None,
        )
        await stack.enter_async_context(bench.platform.host([door.hosted()]))
        yield front


def _refused(gateway: object) -> Callable[..., None]:
    return gateway.refuse  # type: ignore[attr-defined, no-any-return]


async def _no_worlds(namespace: str) -> object:
    raise errors.NotFound("gateway", f"there is no namespace {namespace}")


@pytest.fixture(name="open_front")
def opener() -> Callable[..., AbstractAsyncContextManager[Front]]:
    return open_front


@pytest.fixture
def front(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Front]:
    """A registry that everybody may do everything with."""
    opened = open_front(platform)
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def guarded(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Front]:
    """A registry that asks who may."""
    assert platform.accounts is not None
    platform.accounts.allow([])
    opened = open_front(platform, guarded=True)
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))
