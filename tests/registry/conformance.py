"""What every registry does, written once; `test_registries` runs it on each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.schema import Value
from microcosmos.registry import TTL, Endpoint, Node, Options, Registry, Result, Service
from microcosmos.registry.interface import REPLICA
from microcosmos.registry.memory import MemoryRegistry


class Opened:
    """A registry as its users see it, and the one in memory that is behind it."""

    def __init__(self, registry: Registry, behind: MemoryRegistry, clock: ManualClock) -> None:
        self.registry = registry
        self.behind = behind
        self.clock = clock


def node(id: str, replica: str = "") -> Node:
    return Node(id=id, address="127.0.0.1:1", metadata={REPLICA: replica} if replica else {})


def service(name: str, *nodes: Node, **more: Any) -> Service:
    return Service(name=name, nodes=list(nodes) or [node(f"{name}-1")], **more)


def plain(found: Service) -> Service:
    """A service without the domain that answers over rpc show in its metadata."""
    about = {key: value for key, value in found.metadata.items() if key != "domain"}
    return msgspec.structs.replace(found, metadata=about)


def ids(found: list[Service]) -> list[list[str]]:
    return [[node.id for node in service.nodes] for service in found]


class Watcher:
    """Collects the changes that a watch tells, from the moment that it listens."""

    def __init__(self, results: AsyncIterator[Result]) -> None:
        self._results = results
        self._next: asyncio.Task[Result] | None = None

    def ask(self) -> None:
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._results))  # type: ignore[arg-type]

    async def next(self) -> Result:
        self.ask()
        assert self._next is not None
        result = await asyncio.wait_for(self._next, 60)
        self._next = None
        return result

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._next


@contextlib.asynccontextmanager
async def watching(opened: Opened, name: str = "", *, domain: str = "") -> AsyncIterator[Watcher]:
    watcher = Watcher(opened.registry.watch(name, domain=domain))
    watcher.ask()
    # Listening takes a few turns of the loop over rpc.
    for _ in range(100):
        await asyncio.sleep(0)
    try:
        yield watcher
    finally:
        await watcher.close()


class RegistryConformance:
    """Subclasses give `open`, which opens a registry on a clock."""

    def open(self, clock: ManualClock) -> AbstractAsyncContextManager[Opened]:
        raise NotImplementedError

    async def test_what_is_registered_is_found(self) -> None:
        async with self.open(ManualClock()) as opened:
            registered = service(
                "helloworld",
                Node(id="a", address="10.0.0.1:7", port=3, metadata={"server": "rpc"}),
                version="v2",
                metadata={"owner": "jo"},
                endpoints=[
                    Endpoint(
                        name="Helloworld.Call",
                        request=Value(
                            name="CallRequest",
                            type="CallRequest",
                            values=[Value(name="name", type="string")],
                        ),
                        metadata={"stream": "true"},
                    )
                ],
                options=Options(ttl=60),
            )
            await opened.registry.register(registered)
            (found,) = await opened.registry.get_service("helloworld")
            assert plain(found) == registered

    async def test_an_unknown_service_is_not_found(self) -> None:
        async with self.open(ManualClock()) as opened:
            with pytest.raises(errors.NotFound, match="service nobody not found"):
                await opened.registry.get_service("nobody")

    async def test_services_are_listed_by_name_then_version(self) -> None:
        async with self.open(ManualClock()) as opened:
            for name, version in (("b", "2"), ("b", "1"), ("a", "latest"), ("B", "latest")):
                await opened.registry.register(service(name, version=version))
            found = await opened.registry.list_services()
            assert [(one.name, one.version) for one in found] == [
                ("B", "latest"),
                ("a", "latest"),
                ("b", "1"),
                ("b", "2"),
            ]

    async def test_nodes_of_one_version_come_together(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("1")))
            await opened.registry.register(service("a", node("2")))
            await opened.registry.register(service("a", node("1")))
            assert ids(await opened.registry.get_service("a")) == [["1", "2"]]

    async def test_versions_of_one_service_stay_apart(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("1"), version="1"))
            await opened.registry.register(service("a", node("2"), version="2"))
            assert ids(await opened.registry.get_service("a")) == [["1"], ["2"]]

    async def test_the_last_registration_says_what_there_is_to_call(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", endpoints=[Endpoint(name="A.Old")]))
            await opened.registry.register(service("a", endpoints=[Endpoint(name="A.New")]))
            (found,) = await opened.registry.get_service("a")
            assert [endpoint.name for endpoint in found.endpoints] == ["A.New"]

    async def test_deregistering_removes_those_nodes_at_once(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("1"), node("2")))
            await opened.registry.deregister(service("a", node("1")))
            assert ids(await opened.registry.get_service("a")) == [["2"]]
            await opened.registry.deregister(service("a", node("2")))
            with pytest.raises(errors.NotFound):
                await opened.registry.get_service("a")
            assert await opened.registry.list_services() == []

    async def test_deregistering_what_is_not_there_is_no_error(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.deregister(service("a"))
            await opened.registry.register(service("a", node("1")))
            await opened.registry.deregister(service("a", node("2")))
            await opened.registry.deregister(service("a", node("1"), version="other"))
            assert ids(await opened.registry.get_service("a")) == [["1"]]

    async def test_a_foreign_node_is_forgotten_unless_it_registers_again(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("quiet"), node("lively")))
            await opened.clock.advance(TTL - 1)
            await opened.registry.register(service("a", node("lively")))
            assert ids(await opened.registry.get_service("a")) == [["quiet", "lively"]]
            await opened.clock.advance(1)
            assert ids(await opened.registry.get_service("a")) == [["lively"]]
            await opened.clock.advance(TTL)
            assert await opened.registry.list_services() == []

    async def test_a_ttl_may_be_given(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", options=Options(ttl=5)))
            await opened.clock.advance(4)
            assert await opened.registry.get_service("a")
            await opened.clock.advance(1)
            with pytest.raises(errors.NotFound):
                await opened.registry.get_service("a")

    async def test_a_process_of_ours_stays_until_its_watcher_says_otherwise(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(
                service("a", node("ours", replica="r1"), node("foreign"))
            )
            await opened.registry.register(service("b", node("b", replica="r1"), version="2"))
            await opened.registry.register(service("a", node("other", replica="r2")))
            await opened.clock.advance(100 * TTL)
            assert ids(await opened.registry.list_services()) == [["ours", "other"], ["b"]]
            await opened.behind.deregister(service("a", node("ours")))
            assert ids(await opened.registry.list_services()) == [["other"], ["b"]]

    async def test_a_service_whose_processes_have_died_is_not_found_until_it_is_back(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("1", replica="r1")))
            await opened.behind.lose(service("a", node("1")))
            with pytest.raises(errors.NotFound):
                await opened.registry.get_service("a")
            assert await opened.registry.list_services() == []
            await opened.registry.register(service("a", node("2", replica="r2")))
            assert ids(await opened.registry.get_service("a")) == [["2"]]

    async def test_losing_is_an_update_and_forgetting_a_deletion(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", node("1")))
            await opened.registry.register(service("alive", node("2")))
            async with watching(opened) as watcher:
                await opened.behind.lose(service("a", node("1")))
                lost = await watcher.next()
                assert (lost.action, lost.service.nodes) == ("update", [])
                await opened.behind.forget("alive")
                await opened.behind.forget("a")
                forgotten = await watcher.next()
                assert (forgotten.action, forgotten.service.name) == ("delete", "a")
            assert ids(await opened.registry.list_services()) == [["2"]]

    @pytest.mark.parametrize("name", ["", "a b", "a.*", ">", "a/b", "-a", "x" * 101, "a\n"])
    async def test_a_bad_name_is_refused(self, name: str) -> None:
        async with self.open(ManualClock()) as opened:
            with pytest.raises(errors.BadRequest, match="is no service name"):
                await opened.registry.register(service(name))
            assert await opened.registry.list_services() == []

    async def test_a_bad_endpoint_is_refused(self) -> None:
        async with self.open(ManualClock()) as opened:
            with pytest.raises(errors.BadRequest, match="is no endpoint name"):
                await opened.registry.register(service("a", endpoints=[Endpoint(name="A.*")]))
            assert await opened.registry.list_services() == []

    async def test_a_service_without_nodes_is_refused(self) -> None:
        async with self.open(ManualClock()) as opened:
            with pytest.raises(errors.BadRequest, match="has no nodes"):
                await opened.registry.register(Service(name="a"))

    async def test_domains_are_apart(self) -> None:
        async with self.open(ManualClock()) as opened:
            here, there = (
                service("a", node("1")),
                service("a", node("2"), options=Options(domain="x")),
            )
            await opened.registry.register(here)
            await opened.registry.register(there)
            assert ids(await opened.registry.get_service("a")) == [["1"]]
            assert ids(await opened.registry.get_service("a", domain="micro")) == [["1"]]
            assert ids(await opened.registry.get_service("a", domain="x")) == [["2"]]
            assert ids(await opened.registry.list_services(domain="x")) == [["2"]]
            await opened.registry.deregister(there)
            assert ids(await opened.registry.list_services()) == [["1"]]

    async def test_what_was_found_can_be_deregistered(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a", options=Options(domain="x")))
            (found,) = await opened.registry.get_service("a", domain="x")
            await opened.registry.deregister(found)
            assert await opened.registry.list_services(domain="x") == []

    async def test_a_watch_tells_every_change_with_the_nodes_after_it(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("before"))
            async with watching(opened) as watcher:
                changes = [
                    (opened.registry.register, service("a", node("1"))),
                    (opened.registry.register, service("a", node("2"))),
                    (opened.registry.deregister, service("a", node("1"))),
                    (opened.registry.deregister, service("a", node("2"))),
                ]
                told = []
                for change, about in changes:
                    await change(about)
                    result = await watcher.next()
                    told.append((result.action, [node.id for node in result.service.nodes]))
                assert told == [
                    ("create", ["1"]),
                    ("update", ["1", "2"]),
                    ("update", ["2"]),
                    ("delete", []),
                ]

    async def test_a_watch_tells_changes_that_come_together(self) -> None:
        async with self.open(ManualClock()) as opened, watching(opened) as watcher:
            for name in "abcdef":
                await opened.registry.register(service(name))
            assert [(await watcher.next()).service.name for _ in range(6)] == list("abcdef")

    async def test_a_renewal_is_no_change(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a"))
            async with watching(opened) as watcher:
                await opened.registry.register(service("a"))
                await opened.registry.register(service("b"))
                assert (await watcher.next()).service.name == "b"

    async def test_a_watch_may_be_of_one_service_and_of_one_domain(self) -> None:
        async with (
            self.open(ManualClock()) as opened,
            watching(opened, "b") as of_b,
            watching(opened) as of_all,
            watching(opened, domain="x") as of_x,
        ):
            await opened.registry.register(service("c", options=Options(domain="x")))
            await opened.registry.register(service("a"))
            await opened.registry.register(service("b"))
            assert (await of_b.next()).service.name == "b"
            assert [(await of_all.next()).service.name for _ in range(2)] == ["a", "b"]
            assert (await of_x.next()).service.name == "c"

    async def test_an_expiry_is_a_change(self) -> None:
        async with self.open(ManualClock()) as opened:
            await opened.registry.register(service("a"))
            async with watching(opened) as watcher:
                await opened.clock.advance(TTL)
                opened.behind.expire()
                result = await watcher.next()
                assert (result.action, result.service.name) == ("delete", "a")
