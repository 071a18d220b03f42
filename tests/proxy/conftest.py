"""A whole proxy on a free port, in front of services in memory, and clients that know nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from microcosmos import registry, rpc
from microcosmos.proxy.server import serve_proxy
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Hosted

V1 = "grpc.reflection.v1.ServerReflection"


def hosted(name: str, *functions: Callable[..., Any]) -> Hosted:
    return Hosted(name, [endpoint(function, name) for function in functions])


def record(service: Hosted) -> registry.Service:
    return registry.Service(
        name=service.name,
        version=service.version,
        endpoints=[
            registry.Endpoint(name=e.name, request=e.request, response=e.response)
            for e in service.endpoints.values()
        ],
        nodes=[registry.Node(id=f"{service.name}-1")],
    )


@dataclasses.dataclass
class Proxied:
    """A running proxy and what it stands on."""

    address: str
    channel: aio.Channel
    registry: MemoryRegistry
    table: registry.Table
    server: rpc.Server
    network: rpc.MemoryNetwork

    async def host(self, services: Iterable[Hosted]) -> None:
        self.network.leave(self.server)
        for service in services:
            self.server.services.pop(service.name, None)
            self.server.add(service)
            await self.registry.register(record(service))
        self.network.join(self.server)
        self.table.replace(await self.registry.list_services())

    async def call(self, path: str, request: bytes = b"{}", **options: Any) -> bytes:
        return await self.channel.unary_unary(path)(request, **options)

    async def reflect(self, *, version: str = V1, **question: str) -> Any:
        request = reflection_pb2.ServerReflectionRequest(**question)
        stream = self.channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )([request])
        return await stream.read()

    async def pool(self, symbol: str) -> descriptor_pool.DescriptorPool:
        """The descriptors of a symbol, as a client that asks by reflection has them."""
        answer = await self.reflect(file_containing_symbol=symbol)
        assert not answer.HasField("error_response"), answer
        pool = descriptor_pool.DescriptorPool()
        for data in reversed(answer.file_descriptor_response.file_descriptor_proto):
            pool.Add(FileDescriptorProto.FromString(data))
        return pool

    async def invoke(self, service: str, method: str, **fields: Any) -> Any:
        """Call by protobuf, with nothing known but the names."""
        pool = await self.pool(service)
        known = pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(known.input_type)(**fields)
        answer = message_factory.GetMessageClass(known.output_type)
        path = f"/{service}/{method}"
        return answer.FromString(await self.call(path, request.SerializeToString()))

    async def fails(self, path: str, request: bytes = b"{}", **options: Any) -> aio.AioRpcError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.call(path, request, **options)
        return caught.value


@asynccontextmanager
async def proxied(*services: Hosted) -> AsyncIterator[Proxied]:
    table, network, server = registry.Table(), rpc.MemoryNetwork(), rpc.Server()
    client = rpc.Client([network], table)
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    async with (
        serve_proxy("127.0.0.1:0", client, table) as address,
        aio.insecure_channel(address, options=options) as channel,
    ):
        proxy = Proxied(address, channel, MemoryRegistry(), table, server, network)
        await proxy.host(services)
        yield proxy


@pytest.fixture
def proxy() -> Callable[..., Any]:
    """Opens a proxy in front of some services."""
    return proxied


@pytest.fixture
def service() -> Callable[..., Hosted]:
    """Makes a service of a name and functions."""
    return hosted


@pytest.fixture
def code() -> type[grpc.StatusCode]:
    return grpc.StatusCode
