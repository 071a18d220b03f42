"""A registry whose core is still starting tells nobody that a service is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from microcosmos.base import codec, errors
from microcosmos.base.tasks import background
from microcosmos.registry import Node, Service, Table
from microcosmos.registry.client import RegistryClient, follow
from microcosmos.registry.interface import Found
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Call, Client, Server
from microcosmos.rpc.memory import MemoryNetwork

FILES = Service(name="files", nodes=[Node(id="files-1")])
STORE = Service(name="store", nodes=[Node(id="store-1")])


class Starting:
    """A core's registry, and its server."""

    def __init__(self, *, growing: bool = True) -> None:
        self.registry = MemoryRegistry()
        self.server = Server()
        self.server.growing = growing
        served = RegistryService(self.registry, growing=lambda: self.server.growing)
        self.server.add(served.hosted())

    async def names(self, method: str, request: Any) -> list[str]:
        call = Call("registry", f"Registry.{method}", codec.encode(request), {}, 5)
        answer = await self.server.handle(call)
        services = msgspec.json.decode(answer, type=Found, strict=False).services
        return [service.name for service in services]


ASKED = [
    ("GetService", {"service": "store"}),
    ("ListServices", {}),
    ("Describe", {}),
    ("Describe", {"service": "store"}),
]


@pytest.mark.parametrize(("method", "request_"), ASKED)
async def test_it_says_that_it_is_starting(method: str, request_: dict[str, str]) -> None:
    core = Starting()
    with pytest.raises(errors.Unavailable, match="the core is still starting; try again"):
        await core.names(method, request_)
    await core.registry.register(STORE)
    core.server.growing = False
    assert await core.names(method, request_) == ["store"]


async def test_what_is_there_already_is_found() -> None:
    core = Starting()
    await core.registry.register(STORE)
    assert await core.names("GetService", {"service": "store"}) == ["store"]


async def test_once_it_has_started_an_unknown_one_is_unknown() -> None:
    core = Starting(growing=False)
    with pytest.raises(errors.NotFound):
        await core.names("GetService", {"service": "store"})


async def test_who_follows_keeps_what_it_knows_until_the_core_is_whole() -> None:
    network, table, again = MemoryNetwork(), Table(), asyncio.Event()
    before, after = Starting(growing=False), Starting()
    await before.registry.register(STORE)
    network.join(before.server)
    registry = RegistryClient(Client([network]))
    async with background(follow(registry, table, restarted=again.set), "follower"):
        await eventually(lambda: table.knows("store"))
        network.leave(before.server)
        network.join(after.server)
        before.registry.close()
        asked = after.server.services["registry"].endpoints["Registry.Follow"].stats
        await eventually(lambda: asked.errors)
        assert table.knows("store")
        await after.registry.register(FILES)
        after.server.growing = False
        await asyncio.wait_for(again.wait(), 60)
        assert [service.name for service in table.services()] == ["files"]


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - tasks change it
            await asyncio.sleep(0.005)
