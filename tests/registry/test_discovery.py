"""Foreign services on a real nats-server: plain nats-py, and a registry that is told of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service as Plain
from nats.micro.service import ServiceConfig

from microcosmos.base import errors
from microcosmos.base.tasks import background
from microcosmos.registry import Service, discovery
from microcosmos.registry.discovery import Discovery
from microcosmos.registry.interface import LANE, REPLICA, Node
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.testing.engine import nats_server


class World:
    """An engine, and a registry that a discovery tells of who is there."""

    def __init__(self, url: str, registry: MemoryRegistry, discovery: Discovery) -> None:
        self.url = url
        self.registry = registry
        self.discovery = discovery

    async def find(self, name: str) -> Service:
        """The one version of a service, once it has been found."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(errors.NotFound):
                    (found,) = await self.registry.get_service(name)
                    return found
                await self.discovery.look(name)
                await asyncio.sleep(0.02)

    async def gone(self, name: str) -> None:
        async with asyncio.timeout(60):
            while any(one.name == name for one in await self.registry.list_services()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHECK", 0.05)
    monkeypatch.setattr(discovery, "_AT_FIRST", 0.1)
    monkeypatch.setattr(discovery, "_PAUSE", 0.05)


@contextlib.asynccontextmanager
async def world(folder: Path, *, keep: bool = True) -> AsyncIterator[World]:
    async with nats_server(folder) as url:
        nc = await nats.connect(url)
        registry = MemoryRegistry()
        finder = Discovery(nc, registry, {"registry"})
        async with background(finder.keep(), "discovery") if keep else contextlib.nullcontext():
            yield World(url, registry, finder)
        await nc.close()


@contextlib.asynccontextmanager
async def foreign(url: str, name: str, **about: str) -> AsyncIterator[tuple[NatsClient, Plain]]:
    nc = await nats.connect(url)
    service = await add_service(nc, ServiceConfig(name=name, version="1.2.3", metadata=about))
    try:
        yield nc, service
    finally:
        await nc.close()


async def quiet(request: Request) -> None:
    await request.respond(b"{}")


async def test_names_come_from_endpoints_and_their_groups(tmp_path: Path) -> None:
    async with world(tmp_path) as here, foreign(here.url, "calc") as (_, service):
        named: list[tuple[str, Any, str]] = [
            ("min", service, "Calc.Min"),
            ("list-users", service, "Calc.ListUsers"),
            ("2nd", service, "Calc.N2nd"),
            ("sum", service.add_group(name="math"), "Math.Sum"),
            ("max", service.add_group(name="calc"), "Calc.Max"),
            ("avg", service.add_group(name="calc.stats.v1"), "StatsV1.Avg"),
            ("get", service.add_group(name="users.*"), "Users.Get"),
        ]
        for name, group, _full in named:
            await group.add_endpoint(name=name, handler=quiet)
        await service.add_endpoint(name="apart", subject="some.where", handler=quiet)
        await service.add_endpoint(name="--", handler=quiet)
        found = await here.find("calc")
        assert found.version == "1.2.3"
        about = {one.name: one.metadata["micro.subject"] for one in found.endpoints}
        assert list(about) == [full for *_, full in named] + ["Calc.Apart"]
        assert about["Math.Sum"] == "math.sum"
        assert about["Calc.Apart"] == "some.where"


async def test_schemas_become_shapes(tmp_path: Path) -> None:
    point = {"type": "object", "properties": {"x": {"type": "number"}}}
    schema = {"request": {"$ref": "#/$defs/Point"}, "$defs": {"Point": point}}
    shape = '{"name":"Answer","type":"Answer","values":[{"name":"y","type":"int64"}]}'
    async with world(tmp_path) as here, foreign(here.url, "shapes") as (_, service):
        about = {"micro.schema": json.dumps(schema), "micro.response": shape, "team": "web"}
        await service.add_endpoint(name="call", handler=quiet, metadata=about)
        bad = {"micro.schema": "{", "micro.request": "[]"}
        await service.add_endpoint(name="bad", handler=quiet, metadata=bad)
        found = await here.find("shapes")
        call, broken = found.endpoints
        assert (call.request.type, call.request.values[0].type) == ("Point", "float64")
        assert call.response.values[0].name == "y"
        assert call.metadata == {"team": "web", "micro.subject": "call"}
        assert broken.request.type == ""
        (described,) = await here.registry.describe("shapes")
        assert [one.schema for one in described.endpoints] == [schema, {}]


@pytest.mark.parametrize("leave", ["stop", "break"])
async def test_a_service_that_nobody_listens_for_is_gone(tmp_path: Path, leave: str) -> None:
    async with world(tmp_path) as here, foreign(here.url, "brief") as (nc, service):
        await service.add_endpoint(name="call", handler=quiet)
        await here.find("brief")
        if leave == "stop":
            await service.stop()
        else:
            # As `kill -9` does: the line breaks without a word.
            assert nc._transport is not None
            nc.options["allow_reconnect"] = False
            nc._transport.close()
        await here.gone("brief")


async def test_a_busy_service_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as here, foreign(here.url, "busy") as (_, service):
        await service.add_endpoint(name="call", handler=quiet)
        await here.find("busy")
        monkeypatch.setattr(discovery, "_PATIENCE", 0.05)
        # It is connected, and listens, but answers nothing.
        asked = 0
        enough = asyncio.Event()

        async def ignore(_: Any) -> None:
            nonlocal asked
            asked += 1
            if asked > 2 * discovery.MISSES:
                enough.set()

        for subscription in service._subscriptions.values():
            subscription._cb = ignore
        async with asyncio.timeout(60):
            await enough.wait()
        assert (await here.find("busy")).nodes


@pytest.mark.parametrize("expected", [True, False])
async def test_a_service_that_a_runtime_expects_back_stays_known(
    tmp_path: Path, expected: bool
) -> None:
    async with (
        world(tmp_path) as here,
        foreign(here.url, "ours", **{REPLICA: "ours-1-0-2"}) as (_, service),
    ):
        await service.add_endpoint(name="call", handler=quiet)
        (node,) = (await here.find("ours")).nodes
        assert node.metadata[REPLICA] == "ours-1-0-2"
        if expected:
            await here.registry.expect("ours")
        await service.stop()
        await here.gone("ours")
        assert [one.name for one in here.registry.known()] == ["ours"] * expected
        await here.registry.forget("ours")
        assert here.registry.known() == []


async def test_a_node_that_its_runtime_has_given_up_does_not_come_back(tmp_path: Path) -> None:
    async with (
        world(tmp_path, keep=False) as here,
        foreign(here.url, "ended", **{REPLICA: "ended-1-0-2"}) as (_, service),
    ):
        await service.add_endpoint(name="call", handler=quiet)
        found = await here.find("ended")
        # Its process has ended; an answer that it gave just before arrives late.
        await here.registry.lose(found)
        await asyncio.sleep(0.06)
        await here.discovery.look("ended")
        assert await here.registry.list_services() == []


async def test_a_true_name_stands_in_the_metadata(tmp_path: Path) -> None:
    about = {"micro.service": "v1.foo"}
    async with world(tmp_path) as here, foreign(here.url, "v1-foo", **about) as (_, service):
        group = service.add_group(name="v1.foo")
        await group.add_endpoint(name="call", handler=quiet)
        found = await here.find("v1.foo")
        assert [one.name for one in found.endpoints] == ["Foo.Call"]
        await service.stop()
        await here.gone("v1.foo")


async def test_endpoints_that_come_later_are_seen(tmp_path: Path) -> None:
    async with world(tmp_path) as here, foreign(here.url, "grows") as (_, service):
        await service.add_endpoint(name="one", handler=quiet)
        await here.find("grows")
        await service.add_endpoint(name="two", handler=quiet)
        async with asyncio.timeout(60):
            while len((await here.find("grows")).endpoints) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_service_without_endpoints_is_one_too(tmp_path: Path) -> None:
    async with world(tmp_path) as here, foreign(here.url, "bare"):
        assert (await here.find("bare")).endpoints == []


def _log(caplog: pytest.LogCaptureFixture) -> Callable[[str], int]:
    return lambda text: sum(text in record.getMessage() for record in caplog.records)


async def test_what_cannot_be_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = _log(caplog)
    async with (
        world(tmp_path, keep=False) as here,
        foreign(here.url, "registry") as (_, taken),
        foreign(here.url, "one") as (_, one),
        foreign(here.url, "two") as (_, two),
    ):
        for service in (taken, one, two):
            await service.add_endpoint(name="call", handler=quiet)
        await one.add_endpoint(name="Call", subject="again", handler=quiet)
        with caplog.at_level(logging.WARNING, "microcosmos.registry"):
            await here.find("one")
            await here.find("two")
            async with asyncio.timeout(60):
                while not said("calls itself registry"):
                    await here.discovery.look()
                    await asyncio.sleep(0.06)
            for _ in range(3):
                await here.discovery.look()
                await asyncio.sleep(0.06)
        with pytest.raises(errors.NotFound):
            await here.registry.get_service("registry")
        assert said("calls itself registry") == 1
        assert said("one and two both listen on call") == 1
        assert said("second endpoint is called One.Call") == 1


async def test_a_service_of_ours_keeps_its_own_word(tmp_path: Path) -> None:
    about = {"micro.service": "ours", "micro.version": "latest"}
    async with (
        world(tmp_path, keep=False) as here,
        foreign(here.url, "ours", **about) as (_, service),
    ):
        await service.add_endpoint(name="call", handler=quiet)
        node = Node(id=f"ours-{service.id}", metadata={LANE: "/a.sock"})
        await here.registry.register(Service(name="ours", nodes=[node]))
        await here.discovery.look("ours")
        assert (await here.find("ours")).nodes == [node]
        # A core that has just started takes the announcement.
        fresh, nc = MemoryRegistry(), await nats.connect(here.url)
        found = await World(here.url, fresh, Discovery(nc, fresh)).find("ours")
        assert found.nodes[0].id == node.id
        await nc.close()


async def test_a_service_of_ours_that_leaves_is_not_found_again(tmp_path: Path) -> None:
    """It announces itself until its last call has ended, after it has said that it leaves."""
    async with world(tmp_path) as here:
        ours = {"micro.service": "mine", "micro.version": "latest"}
        async with foreign(here.url, "mine", **ours) as (_, plain):
            found = await here.find("mine")
            assert found.nodes[0].id == f"mine-{plain.id}"
            await here.registry.deregister(found)
            await asyncio.gather(*(here.discovery.look(str(word)) for word in ("", "mine")))
            assert await here.registry.list_services() == []
