"""Reflection and health, asked as grpcurl and health probes ask."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from microcosmos.proxy.files import file_of

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
HEALTH = "grpc.health.v1.Health"


async def call(name: str = "World") -> str:
    return f"Hello {name}"


async def bye(name: str = "World", times: int = 1) -> list[str]:
    return [f"Bye {name}"] * times


def listed(answer) -> list[str]:
    return [service.name for service in answer.list_services_response.service]


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_services_are_listed_from_the_live_table(proxy, service, version):
    async with proxy(service("helloworld", call)) as door:
        answer = await door.reflect(version=version, list_services="")
        assert listed(answer) == [HEALTH, V1, V1ALPHA, "helloworld.Helloworld"]
        await door.host([service("v1.my-shop", call)])
        answer = await door.reflect(version=version, list_services="*")
        assert "v1.my_shop.MyShop" in listed(answer)
        assert answer.original_request.list_services == "*"


@pytest.mark.parametrize(
    "symbol",
    [
        "helloworld.Helloworld",
        "helloworld.Helloworld.Call",
        "helloworld.CallRequest",
        "helloworld.CallRequest.name",
        V1,
        V1ALPHA,
        HEALTH,
        "google.protobuf.Value",
        "google.protobuf.Any",
        "google.rpc.Status",
        "errors.Error",
    ],
)
async def test_a_symbol_is_found_with_all_its_imports(proxy, service, symbol):
    async with proxy(service("helloworld", call)) as door:
        pool = await door.pool(symbol)
        assert file_of(pool, symbol)


async def test_a_file_is_found_by_its_name(proxy, service):
    async with proxy(service("v1.foo", call)) as door:
        for name in ("v1.foo.proto", "google/protobuf/struct.proto"):
            answer = await door.reflect(file_by_filename=name)
            assert answer.file_descriptor_response.file_descriptor_proto
        pool = await door.pool("v1.foo.Foo")
        assert pool.FindFileByName("v1.foo.proto").package == "v1.foo"


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "nobody.Nobody"},
        {"file_containing_symbol": "helloworld.Nothing"},
        {"file_containing_symbol": ""},
        {"file_containing_symbol": "..."},
        {"file_by_filename": "nobody.proto"},
        {"file_by_filename": "helloworld"},
        {"all_extension_numbers_of_type": "nobody.Nobody"},
        {},
    ],
)
async def test_what_is_unknown_is_answered_as_not_found(proxy, service, question):
    async with proxy(service("helloworld", call)) as door:
        answer = await door.reflect(**question)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_messages_have_no_extensions(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        answer = await door.reflect(all_extension_numbers_of_type="helloworld.CallRequest")
        found = answer.all_extension_numbers_response
        assert (found.base_type_name, list(found.extension_number)) == (
            "helloworld.CallRequest",
            [],
        )


async def test_a_service_that_changes_has_a_new_file(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        await door.pool("helloworld.Helloworld.Call")
        await door.host([service("helloworld", call, bye)])
        answer = await door.invoke("helloworld.Helloworld", "Bye", name="you", times=2)
        assert list(answer.value) == ["Bye you", "Bye you"]


def ask_by_reflection(address: str) -> str:
    """What a program does that has gRPC's own reflection client and nothing else."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "helloworld.Helloworld" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("helloworld.Helloworld").FindMethodByName("Call")
        request = message_factory.GetMessageClass(method.input_type)(name="you")
        send = channel.unary_unary(
            "/helloworld.Helloworld/Call",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return send(request).value


async def test_grpcs_own_reflection_client_can_call(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        assert await asyncio.to_thread(ask_by_reflection, door.address) == "Hello you"


@pytest.mark.parametrize("name", ["", HEALTH, "helloworld", "helloworld.Helloworld"])
async def test_what_is_served_is_healthy(proxy, service, name):
    async with proxy(service("helloworld", call)) as door:
        health = health_pb2_grpc.HealthStub(door.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("name", ["nobody", "nobody.Nobody", "helloworld.Other", "..", "a.b.c.d"])
async def test_the_health_of_what_is_unknown_is_not_found(proxy, service, name):
    async with proxy(service("helloworld", call)) as door:
        health = health_pb2_grpc.HealthStub(door.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_of_health_tells_of_changes(proxy, service):
    states = health_pb2.HealthCheckResponse
    async with proxy() as door:
        health = health_pb2_grpc.HealthStub(door.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="helloworld"))
        assert (await watch.read()).status == states.SERVICE_UNKNOWN
        await door.host([service("helloworld", call)])
        assert (await watch.read()).status == states.SERVING
        door.table.replace([])
        assert (await watch.read()).status == states.SERVICE_UNKNOWN


async def test_a_stream_of_questions_ends_when_the_proxy_closes(proxy):
    opened = proxy()
    door = await opened.__aenter__()
    async with grpc.aio.insecure_channel(door.address) as channel:
        stream = channel.stream_stream(f"/{V1}/ServerReflectionInfo")()
        await stream.write(
            reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        )
        assert HEALTH.encode() in await stream.read()
        closing = asyncio.create_task(opened.__aexit__(None, None, None))
        assert await stream.read() is grpc.aio.EOF
    await closing


async def test_a_service_that_died_and_is_expected_back_is_not_serving(proxy, service):
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        health = health_pb2_grpc.HealthStub(door.channel)
        (gone,) = await door.registry.get_service("shop")
        await door.registry.lose(gone)
        for result in await door.registry.changes(0, timeout=0):
            door.table.apply(result)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="shop"))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
