"""Each registry does what every registry does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.registry import Endpoint, Node, Options, Result, Service
from microcosmos.registry.client import RegistryClient
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, MemoryNetwork, Server
from microcosmos.rpc.handler import endpoint

from .conformance import Opened, RegistryConformance, node, service


class TestMemory(RegistryConformance):
    @contextlib.asynccontextmanager
    async def open(self, clock: ManualClock) -> AsyncIterator[Opened]:
        registry = MemoryRegistry(clock)
        yield Opened(registry, registry, clock)


class TestOverRpc(RegistryConformance):
    @contextlib.asynccontextmanager
    async def open(self, clock: ManualClock) -> AsyncIterator[Opened]:
        behind = MemoryRegistry(clock)
        yield Opened(RegistryClient(_client(behind)), behind, clock)


def _client(registry: MemoryRegistry) -> Client:
    server = Server()
    server.add(RegistryService(registry).hosted())
    network = MemoryNetwork()
    network.join(server)
    return Client([network])


async def _ask(client: Client, method: str, **request: Any) -> bytes:
    return await client.call("registry", f"Registry.{method}", json.dumps(request).encode())


async def test_the_changes_since_a_sequence_are_told_at_once() -> None:
    registry = MemoryRegistry()
    for name in "abc":
        await registry.register(service(name))
    told = await registry.changes(1, timeout=None)
    assert [(result.sequence, result.service.name) for result in told] == [(2, "b"), (3, "c")]


async def test_no_change_in_time_is_an_empty_answer() -> None:
    registry = MemoryRegistry()
    await registry.register(service("a"))
    assert await registry.changes(registry.sequence, timeout=0.01) == []


async def test_changes_that_are_forgotten_are_a_conflict() -> None:
    registry = MemoryRegistry()
    for number in range(3000):
        await registry.register(service("a", node(str(number % 2))))
        await registry.deregister(service("a", node(str(number % 2))))
    with pytest.raises(errors.Conflict, match="no longer remembered"):
        await registry.changes(0, timeout=None)
    recent = await registry.changes(registry.sequence - 2, timeout=None)
    assert [result.action for result in recent] == ["create", "delete"]


async def test_changes_carry_the_clocks_time() -> None:
    registry = MemoryRegistry(ManualClock(start=1234.5))
    await registry.register(service("a"))
    (result,) = await registry.changes(0, timeout=None)
    assert result.timestamp == 1234


async def test_listeners_in_the_process_are_told_at_once() -> None:
    registry = MemoryRegistry()
    heard: list[Result] = []
    registry.listen(heard.append)
    await registry.register(service("a"))
    await registry.deregister(service("a"))
    assert [result.action for result in heard] == ["create", "delete"]


async def test_a_watch_sees_changes_made_before_it_is_first_asked() -> None:
    registry = MemoryRegistry()
    results = registry.watch()
    await registry.register(service("a"))
    assert (await anext(results)).service.name == "a"


async def test_a_registry_that_closes_lets_go_of_everyone_who_waits() -> None:
    registry = MemoryRegistry()
    waiting = [asyncio.create_task(registry.changes(0, timeout=None)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    registry.close()
    for one in waiting:
        with pytest.raises(errors.Unavailable, match="the registry stops"):
            await one
    with pytest.raises(errors.Unavailable):
        await registry.changes(0, timeout=None)


async def test_many_services_are_listed_fast() -> None:
    registry = MemoryRegistry()
    endpoints = [Endpoint(name=f"A.E{number}") for number in range(10)]
    for number in range(1000):
        await registry.register(service(f"s{number}", endpoints=endpoints))
    started = time.process_time()
    assert len(await registry.list_services()) == 1000
    assert time.process_time() - started < 1


# The reference's own example; `registry` prints no other shape.
REFERENCE = """{
  "services": [
    {
      "name": "helloworld",
      "version": "latest",
      "metadata": {
        "domain": "micro"
      },
      "endpoints": [
        {
          "name": "Helloworld.Call",
          "request": {
            "name": "CallRequest",
            "type": "CallRequest",
            "values": [
              {
                "name": "name",
                "type": "string",
                "values": []
              }
            ]
          },
          "response": {
            "name": "CallResponse",
            "type": "CallResponse",
            "values": [
              {
                "name": "message",
                "type": "string",
                "values": []
              }
            ]
          },
          "metadata": {}
        },
        {
          "name": "Helloworld.Stream",
          "request": {
            "name": "Context",
            "type": "Context",
            "values": []
          },
          "response": {
            "name": "Stream",
            "type": "Stream",
            "values": []
          },
          "metadata": {
            "stream": "true"
          }
        }
      ],
      "nodes": [
        {
          "id": "helloworld-3a0d02be-f98e-4d9d-a8fa-24e942580848",
          "address": "192.168.43.193:34321",
          "port": "0",
          "metadata": {
            "broker": "service",
            "protocol": "grpc",
            "registry": "service",
            "server": "grpc",
            "transport": "grpc"
          }
        }
      ],
      "options": {
        "ttl": "0",
        "domain": ""
      }
    }
  ]
}"""


async def test_get_service_answers_in_the_references_shape_to_the_letter() -> None:
    client = _client(MemoryRegistry())
    (registered,) = json.loads(REFERENCE)["services"]
    await _ask(client, "Register", **registered)
    answer = await _ask(client, "GetService", service="helloworld")
    assert json.dumps(json.loads(answer), indent=2) == REFERENCE


async def test_fields_that_were_not_given_are_there_and_empty() -> None:
    client = _client(MemoryRegistry())
    await _ask(client, "Register", name="a", nodes=[{"id": "1"}])
    assert json.loads(await _ask(client, "ListServices"))["services"] == [
        {
            "name": "a",
            "version": "latest",
            "metadata": {"domain": "micro"},
            "endpoints": [],
            "nodes": [{"id": "1", "address": "", "port": "0", "metadata": {}}],
            "options": {"ttl": "0", "domain": ""},
        }
    ]


async def test_a_service_of_another_domain_shows_it() -> None:
    client = _client(MemoryRegistry())
    options = {"ttl": "60", "domain": "shop"}
    await _ask(client, "Register", name="a", nodes=[{"id": "1"}], options=options)
    answer = json.loads(await _ask(client, "GetService", service="a", options={"domain": "shop"}))
    assert answer["services"][0]["metadata"] == {"domain": "shop"}
    assert answer["services"][0]["options"] == options


def test_the_service_is_described_as_the_reference_describes_it() -> None:
    hosted = RegistryService(MemoryRegistry()).hosted()
    assert sorted(hosted.endpoints) == [
        "Registry.Deregister",
        "Registry.Describe",
        "Registry.Follow",
        "Registry.GetService",
        "Registry.ListServices",
        "Registry.Register",
        "Registry.Watch",
    ]
    get = hosted.endpoints["Registry.GetService"].request
    options = get.field("options")
    listed = hosted.endpoints["Registry.ListServices"].request
    assert listed.values == [options]
    assert [(field.name, field.type) for field in get.values] == [
        ("service", "string"),
        ("options", "Options"),
    ]
    assert options is not None
    assert [(field.name, field.type) for field in options.values] == [
        ("ttl", "int64"),
        ("domain", "string"),
    ]


@pytest.mark.parametrize(
    ("method", "request_", "told"),
    [
        ("GetService", {}, "`service`"),
        ("GetService", {"service": 7}, "$.service"),
        ("GetService", {"service": "a", "options": {"ttl": "soon"}}, "$.options.ttl"),
        ("Register", {"name": "a", "nodes": [{"address": "x"}]}, "$.nodes[0]"),
        ("Register", {"name": "a", "nodes": [{"id": "1", "port": "x"}]}, "$.nodes[0].port"),
        ("Register", {"name": "a b", "nodes": [{"id": "1"}]}, "is no service name"),
    ],
)
async def test_bad_input_names_the_field(method: str, request_: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        await _ask(_client(MemoryRegistry()), method, **request_)
    assert told in caught.value.detail


async def test_who_follows_is_told_everything_first() -> None:
    registry = MemoryRegistry()
    await registry.register(service("a"))
    await registry.register(service("b", options=Options(domain="x")))
    client = RegistryClient(_client(registry))
    async with aclosing(client.follow()) as news:
        changes = await anext(news)
    assert (changes.snapshot, changes.epoch, changes.sequence) == (True, registry.epoch, 2)
    assert [result.service.name for result in changes.results] == ["a"]
    async with aclosing(client.follow("nobody")) as news:
        assert (await anext(news)).results == []


async def test_who_follows_again_is_told_what_came_since() -> None:
    registry = MemoryRegistry()
    client = RegistryClient(_client(registry))
    async with aclosing(client.follow()) as news:
        first = await anext(news)
    await registry.register(service("a"))
    async with aclosing(client.follow("", first)) as news:
        since = await anext(news)
        assert (since.snapshot, [one.action for one in since.results]) == (False, ["create"])


async def test_who_follows_after_a_restart_or_after_too_long_is_told_everything() -> None:
    registry = MemoryRegistry()
    client = RegistryClient(_client(registry))
    async with aclosing(client.follow()) as news:
        first = await anext(news)
    for number in range(2100):
        await registry.register(service("a", node(str(number))))
        await registry.deregister(service("a", node(str(number))))
    await registry.register(service("last"))
    async with aclosing(client.follow("", first)) as news:
        again = await anext(news)
    assert again.snapshot
    assert [result.service.name for result in again.results] == ["last"]

    other = MemoryRegistry()
    await other.register(service("new"))
    async with aclosing(RegistryClient(_client(other)).follow("", again)) as news:
        restarted = await anext(news)
    assert (restarted.snapshot, restarted.epoch) == (True, other.epoch)


async def test_who_follows_waits_for_a_change_of_what_it_follows() -> None:
    registry = MemoryRegistry()
    client = RegistryClient(_client(registry))
    async with aclosing(client.follow("b")) as news:
        await anext(news)
        waiting = asyncio.create_task(anext(news))
        await registry.register(service("a"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        await registry.register(service("b"))
        changes = await waiting
    assert (changes.snapshot, changes.sequence) == (False, 2)
    assert [result.action for result in changes.results] == ["create"]


async def test_a_watch_shows_changes_as_the_reference_does() -> None:
    registry = MemoryRegistry()
    client = _client(registry)
    async with client.stream("registry", "Registry.Watch", b'{"service":"a"}') as stream:
        waiting = asyncio.create_task(anext(stream))
        while not waiting.done():
            # Until the watch has begun, changes pass it by.
            await registry.register(service("a", node(secrets.token_hex(4))))
            await asyncio.sleep(0)
        result = json.loads(await waiting)
    assert result["action"] in ("create", "update")
    assert result["service"]["options"] == {"ttl": "0", "domain": ""}
    assert isinstance(result["timestamp"], str)


def test_a_service_finds_its_endpoints_by_name() -> None:
    async def call() -> None: ...

    made = Service(name="a", endpoints=[Endpoint(name="A.Call")], nodes=[Node(id="1")])
    assert made.endpoint(endpoint(call, "a").name) is made.endpoints[0]
    assert made.endpoint("A.Other") is None
