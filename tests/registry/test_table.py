"""The table that every process looks calls and routes up in, and how it follows the registry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from microcosmos.registry import Endpoint, Node, Result, Service, Table, this_host
from microcosmos.registry.client import RegistryClient, follow
from microcosmos.registry.interface import HOST, LANE
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.registry.table import SUBJECT
from microcosmos.rpc import Client, MemoryNetwork, Server

from .conformance import node, service


def laned(id: str, path: str, host: str = "") -> Node:
    return Node(id=id, metadata={LANE: path, HOST: host or this_host()})


def change(action: str, about: Service) -> Result:
    return Result(action=action, service=about, timestamp=0)  # type: ignore[arg-type]


def test_lanes_are_those_of_this_host() -> None:
    table = Table()
    table.apply(
        change(
            "create",
            service(
                "a",
                laned("1", "/one.sock"),
                laned("2", "/two.sock", host="another"),
                node("3"),
                Node(id="4", metadata={LANE: "/no-host.sock"}),
                laned("5", "/five.sock"),
            ),
        )
    )
    assert table.lanes("a") == ["/one.sock", "/five.sock"]
    assert table.lanes("b") == []


def test_lanes_of_all_versions_are_together() -> None:
    table = Table()
    for version in ("1", "2"):
        about = service("a", laned(version, f"/{version}.sock"), version=version)
        table.apply(change("create", about))
    assert table.lanes("a") == ["/1.sock", "/2.sock"]
    table.apply(change("delete", service("a", version="1")))
    assert table.lanes("a") == ["/2.sock"]


def test_a_change_says_what_the_nodes_are_from_now_on() -> None:
    table = Table()
    table.apply(change("create", service("a", laned("1", "/1.sock"))))
    table.apply(change("update", service("a", laned("2", "/2.sock"))))
    assert table.lanes("a") == ["/2.sock"]


def test_fixed_lanes_are_known_without_a_registry_and_yield_to_it() -> None:
    table = Table({"registry": "/core.sock"})
    assert table.lanes("registry") == ["/core.sock"]
    assert table.knows("registry")
    table.apply(change("create", service("registry", laned("1", "/new.sock"))))
    assert table.lanes("registry") == ["/new.sock"]
    table.apply(change("delete", service("registry")))
    assert table.lanes("registry") == ["/core.sock"]


def test_a_service_that_is_expected_back_is_known_and_has_nothing() -> None:
    table = Table()
    assert not table.knows("a")
    about = service("a", laned("1", "/1.sock"), endpoints=[Endpoint(name="A.Call")])
    table.apply(change("create", about))
    table.apply(change("update", Service(name="a", endpoints=about.endpoints)))
    assert table.knows("a")
    assert table.lanes("a") == []
    assert table.services() == []
    assert table.endpoint("a", "A.Call") is not None


def test_what_all_the_replicas_of_this_host_left_behind_is_not_looked_for_elsewhere() -> None:
    table = Table({"registry": "/core.sock"})
    here, there = laned("1", "/1.sock"), laned("2", "/2.sock", host="another")
    assert table.elsewhere("a")
    assert table.elsewhere("registry"), "other hosts have cores too"
    table.apply(change("create", service("a", here)))
    assert (table.elsewhere("a"), table.lost("a")) == (False, False)
    table.apply(change("create", service("a", there, version="2")))
    assert table.elsewhere("a")
    table.apply(change("delete", service("a", version="2")))
    assert not table.elsewhere("a")
    table.apply(change("update", Service(name="a")))
    assert (table.elsewhere("a"), table.lost("a")) == (False, True)
    table.apply(change("update", service("a", node("3"))))
    assert (table.elsewhere("a"), table.lost("a")) == (True, False)
    table.apply(change("update", Service(name="a")))
    assert (table.elsewhere("a"), table.lost("a")) == (True, True)
    table.apply(change("update", service("a", here)))
    table.apply(change("delete", Service(name="a")))
    assert (table.elsewhere("a"), table.lost("a")) == (True, False)


def test_a_service_that_is_gone_is_not_known() -> None:
    table = Table()
    about = service("a", laned("1", "/1.sock"), endpoints=[Endpoint(name="A.Call")])
    table.apply(change("create", about))
    table.apply(change("delete", service("a")))
    assert not table.knows("a")
    assert table.lanes("a") == []
    assert table.services() == []
    assert table.versions("a") == []
    assert table.endpoint("a", "A.Call") is None


def test_a_change_before_its_service_is_known_does_no_harm() -> None:
    table = Table()
    table.apply(change("delete", service("a")))
    assert table.services() == []


def test_replacing_takes_over_the_whole_list() -> None:
    table = Table()
    table.apply(change("create", service("old", laned("1", "/1.sock"))))
    table.replace([service("b", version="2"), service("a"), service("b", version="1")])
    assert [(one.name, one.version) for one in table.services()] == [
        ("a", "latest"),
        ("b", "2"),
        ("b", "1"),
    ]
    assert table.lanes("old") == []
    assert not table.knows("old")
    assert [one.version for one in table.versions("b")] == ["2", "1"]


def test_endpoints_are_found_in_whichever_version_has_them() -> None:
    table = Table()
    both, only = Endpoint(name="A.Both"), Endpoint(name="A.Only")
    table.apply(change("create", service("a", endpoints=[both], version="1")))
    table.apply(change("create", service("a", endpoints=[both, only], version="2")))
    assert table.endpoint("a", "A.Only") == only
    assert table.endpoint("a", "A.None") is None
    assert table.endpoint("b", "A.Only") is None


def test_subjects_are_ours_unless_a_foreign_service_said_its_own() -> None:
    table = Table()
    foreign = Endpoint(name="Foreign.Add", metadata={SUBJECT: "math.add"})
    ours = Endpoint(name="Ours.Call")
    table.apply(change("create", service("foreign", endpoints=[foreign])))
    table.apply(change("create", service("ours", endpoints=[ours])))
    assert table.subject("foreign", "Foreign.Add") == "math.add"
    assert table.subject("ours", "Ours.Call") == "rpc.ours.Ours.Call"
    assert table.subject("nobody", "Nobody.Call") == "rpc.nobody.Nobody.Call"


def test_an_endpoint_is_called_again_unless_it_says_otherwise() -> None:
    table = Table()
    once = Endpoint(name="A.Once", metadata={"retry": "false"})
    table.apply(change("create", service("a", endpoints=[once, Endpoint(name="A.Call")])))
    assert not table.retries("a", "A.Once")
    assert table.retries("a", "A.Call")
    assert table.retries("nobody", "A.Call")


def test_listeners_hear_the_name_of_every_service_that_changes() -> None:
    table, heard = Table(), []
    table.apply(change("create", service("before")))
    table.on_change(heard.append)
    table.apply(change("create", service("a")))
    table.replace([service("b")])
    assert heard[0] == "a"
    assert sorted(heard[1:]) == ["a", "b", "before"]


def test_this_host_is_the_same_every_time() -> None:
    assert this_host() == this_host() != ""


class Core:
    """Where a registry is, or is not."""

    def __init__(self) -> None:
        self._network = MemoryNetwork()
        self._server: Server | None = None
        self.client = RegistryClient(Client([self._network]))

    def start(self) -> MemoryRegistry:
        registry = MemoryRegistry()
        self._server = Server()
        self._server.add(RegistryService(registry).hosted())
        self._network.join(self._server)
        return registry

    def kill(self) -> None:
        assert self._server is not None
        self._network.cut(self._server)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0)


class Following:
    """A table that follows a core, and what it was told."""

    def __init__(self) -> None:
        self.table = Table()
        self.restarted = 0
        self.read = 0

    def on_restart(self) -> None:
        self.restarted += 1

    def on_read(self) -> None:
        self.read += 1

    def names(self) -> list[str]:
        return [one.name for one in self.table.services()]


@contextlib.asynccontextmanager
async def following(core: Core) -> AsyncIterator[Following]:
    followed = Following()
    task = asyncio.create_task(
        follow(core.client, followed.table, read=followed.on_read, restarted=followed.on_restart)
    )
    try:
        yield followed
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_table_follows_every_change() -> None:
    core = Core()
    registry = core.start()
    await registry.register(service("before"))
    async with following(core) as followed:
        await until(lambda: followed.names() == ["before"])
        await registry.register(service("a"))
        await until(lambda: followed.names() == ["a", "before"])
        await registry.deregister(service("before"))
        await until(lambda: followed.names() == ["a"])
        assert (followed.read, followed.restarted) == (1, 0)


async def test_a_registry_that_is_not_there_yet_is_waited_for() -> None:
    core = Core()
    async with following(core) as followed:
        for _ in range(20):
            await asyncio.sleep(0)
        registry = core.start()
        await registry.register(service("a"))
        await until(lambda: followed.names() == ["a"])
        assert followed.restarted == 0


async def test_a_registry_that_is_away_changes_nothing_and_a_new_one_is_told() -> None:
    core = Core()
    registry = core.start()
    await registry.register(service("a"))
    await registry.register(service("b"))
    async with following(core) as followed:
        await until(lambda: followed.names() == ["a", "b"])
        for _ in range(20):
            await asyncio.sleep(0)
        core.kill()
        for _ in range(20):
            await asyncio.sleep(0)
        assert followed.names() == ["a", "b"]
        renewed = core.start()
        await renewed.register(service("c"))
        await until(lambda: followed.restarted)
        assert followed.names() == ["c"]
        assert (followed.read, followed.restarted) == (2, 1)
        await renewed.register(service("d"))
        await until(lambda: followed.names() == ["c", "d"])
        assert followed.restarted == 1


async def test_a_table_that_fell_behind_reads_everything_again() -> None:
    core = Core()
    registry = core.start()
    async with following(core) as followed:
        await until(lambda: followed.read)
        for number in range(2100):
            await registry.register(service("a", node(str(number))))
            await registry.deregister(service("a", node(str(number))))
        await registry.register(service("last"))
        await until(lambda: followed.names() == ["last"])
        assert (followed.read, followed.restarted) == (2, 0)


@pytest.mark.parametrize("count", [1000])
async def test_a_large_registry_is_followed(count: int) -> None:
    core = Core()
    registry = core.start()
    endpoints = [Endpoint(name=f"A.E{number}") for number in range(10)]
    for number in range(count):
        await registry.register(service(f"s{number}", endpoints=endpoints))
    async with following(core) as followed:
        await until(lambda: len(followed.table.services()) == count)
        assert followed.table.endpoint(f"s{count - 1}", "A.E9") is not None
