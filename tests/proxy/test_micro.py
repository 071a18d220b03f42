"""Core services, spoken to by a client that was built for Micro v3."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest
from google.protobuf import message_factory

from microcosmos.proxy import wire
from microcosmos.proxy.debug import Stats
from microcosmos.proxy.files import describe, fresh_pool
from microcosmos.proxy.notation import read
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Hosted
from microcosmos.rpc.handler import endpoint


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


async def call(name: str = "World") -> dict[str, int]:
    return {name: 1}


@pytest.fixture
def messages():
    """The messages of a package, from the facts alone."""

    def of(package: str):
        pool = fresh_pool()
        file = read(package, wire.PACKAGES[package])
        pool.Add(file)
        return lambda name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{name}")
        )

    return of


async def test_get_service_answers_a_message_made_by_hand(proxy, service, messages):
    async with proxy(service("helloworld", call)) as door:
        await door.host([RegistryService(door.registry).hosted()])
        # GetRequest{1 service, 2 options{1 ttl, 2 domain}}
        options = b"\x08\x05" + field(2, b"micro")
        request = field(1, b"helloworld") + field(2, options)
        data = await door.call("/registry.Registry/GetService", request)
    answer = messages("registry")("GetResponse").FromString(data)
    found = answer.services[0]
    assert (found.name, found.version, found.metadata["domain"]) == (
        "helloworld",
        "latest",
        "micro",
    )
    assert [node.id for node in found.nodes] == ["helloworld-1"]
    shape = found.endpoints[0]
    assert (shape.name, shape.request.type) == ("Helloworld.Call", "CallRequest")
    assert [(v.name, v.type) for v in shape.request.values] == [("name", "string")]
    # By numbers: GetResponse{1 services{1 name}}
    assert data[0] == 0x0A
    assert field(1, b"helloworld") + field(2, b"latest") in data


async def test_a_micro_client_registers_lists_and_deregisters(proxy, messages):
    async with proxy() as door:
        await door.host([RegistryService(door.registry).hosted()])
        of = messages("registry")
        foreign = of("Service")(
            name="foreign",
            version="1.0.0",
            nodes=[{"id": "foreign-1", "address": "10.0.0.1", "port": 2**40}],
            options={"ttl": 60},
        )
        data = await door.call("/registry.Registry/Register", foreign.SerializeToString())
        assert data == b""
        listed = of("ListResponse").FromString(
            await door.call("/registry.Registry/ListServices", b"")
        )
        assert [service.name for service in listed.services] == ["foreign", "registry"]
        assert listed.services[0].nodes[0].port == 2**40
        await door.call("/registry.Registry/Deregister", foreign.SerializeToString())
        error = await door.fails("/registry.Registry/GetService", field(1, b"foreign"))
        assert error.code().name == "NOT_FOUND"


async def test_reflection_shows_micros_messages_for_the_endpoints_that_are_there(proxy):
    async with proxy() as door:
        await door.host([RegistryService(door.registry).hosted()])
        pool = await door.pool("registry.Registry")
    methods = pool.FindServiceByName("registry.Registry").methods_by_name
    assert methods["GetService"].input_type.full_name == "registry.GetRequest"
    ttl = pool.FindMessageTypeByName("registry.Options").fields_by_name["ttl"]
    assert (ttl.number, ttl.type) == (1, ttl.TYPE_INT64)


async def test_a_watch_tells_of_the_changes_from_now_on(proxy, messages) -> None:
    async with proxy() as door:
        await door.host([RegistryService(door.registry).hosted()])
        of = messages("registry")
        call = door.channel.unary_stream("/registry.Registry/Watch")(field(1, b"foreign"))
        reading = asyncio.ensure_future(call.read())
        for version in itertools.count():
            # Until the watch has begun, changes pass it by.
            foreign = of("Service")(name="foreign", version=str(version), nodes=[{"id": "1"}])
            await door.call("/registry.Registry/Register", foreign.SerializeToString())
            done, _ = await asyncio.wait((reading,), timeout=0.02)
            if done:
                break
        result = of("Result").FromString(reading.result())
        assert (result.action, result.service.name) == ("create", "foreign")
        await door.call("/registry.Registry/Deregister", foreign.SerializeToString())
        while result.action != "delete":
            result = of("Result").FromString(await call.read())
        call.cancel()


async def test_every_service_answers_for_its_health(proxy, service, messages, code) -> None:
    async with proxy(service("helloworld", call)) as door:
        data = await door.call("/helloworld.Debug/Health", b"")
        assert messages("debug")("HealthResponse").FromString(data).status == "ok"
        assert await door.call("/helloworld.Debug/Health", b"{}") == b'{"status":"ok"}'
        for path, status in {
            "/helloworld.Debug/Log": code.UNIMPLEMENTED,
            "/helloworld.Debug/Stats": code.UNIMPLEMENTED,  # there is no engine to ask by here
            "/helloworld.Debug/Nope": code.UNIMPLEMENTED,
            "/nobody.Debug/Health": code.NOT_FOUND,
        }.items():
            assert (await door.fails(path, b"")).code() is status


async def test_a_handler_that_is_called_debug_answers_for_itself(proxy) -> None:
    async def health() -> dict[str, int]:
        return {"own": 1}

    async with proxy() as door:
        await door.host([Hosted("shop", [endpoint(health, "shop", name="Debug.Health")])])
        assert await door.call("/shop.Debug/Health", b"{}") == b'{"own":1}'


async def test_counters_of_all_replicas_are_summed(proxy, service, messages) -> None:
    async def counted(name: str) -> list[Stats]:
        endpoints = [{"num_requests": 2, "num_errors": 1}, {"num_requests": 3}]
        started = ("2026-01-02T00:00:00.5Z", "2026-01-01T00:00:00Z")
        return msgspec.convert(
            [{"started": at, "endpoints": endpoints} for at in started], list[Stats]
        )

    async with proxy(service("helloworld", call), stats=counted) as door:
        data = await door.call("/helloworld.Debug/Stats", b"")
    stats = messages("debug")("StatsResponse").FromString(data)
    assert (stats.requests, stats.errors, stats.started) == (10, 2, 1767225600)
    assert stats.timestamp - stats.started == stats.uptime


@pytest.mark.parametrize("package", wire.PACKAGES)
def test_every_package_is_a_whole_file(package):
    file = describe(package, [])
    for service in file.proto.service:
        for method in service.method:
            assert file.method(f"{service.name}.{method.name}") is not None


def test_a_word_that_is_not_in_the_notation_is_refused():
    with pytest.raises(ValueError, match="1 name"):
        read("x", "message A: 1 name")
