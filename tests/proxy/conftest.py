"""A whole proxy on a free port, in front of services in memory, and clients that know nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from microcosmos import registry, rpc
from microcosmos.proxy import client, text
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
            registry.Endpoint(
                name=e.name, request=e.request, response=e.response, metadata=e.metadata
            )
            for e in service.endpoints.values()
        ],
        schemas={e.name: msgspec.Raw(e.schema) for e in service.endpoints.values()},
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

    async def proto(self, service: str) -> str:
        """What `micro proto` prints of a service."""
        data = await asyncio.to_thread(client.describe, self.address, service)
        return text.write(FileDescriptorProto.FromString(data))

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

    async def script(self, program: str, folder: Path, *arguments: str) -> str:
        """What a program prints that knows the address, the folder and nothing else of us."""
        command = (sys.executable, "-c", program, self.address, *arguments)
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        child = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env=environment
        )
        out, _ = await child.communicate()
        assert child.returncode == 0
        return out.decode()

    async def fails(self, path: str, request: bytes = b"{}", **options: Any) -> aio.AioRpcError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.call(path, request, **options)
        return caught.value


@asynccontextmanager
async def proxied(*services: Hosted, **options: Any) -> AsyncIterator[Proxied]:
    table, network = registry.Table(), rpc.MemoryNetwork()
    server = rpc.Server(verifier=options.get("access"))
    carrier, known = rpc.Client([network], table), MemoryRegistry()
    options = {"schemas": known.describe, **options}
    limits = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    async with (
        serve_proxy("127.0.0.1:0", carrier, table, **options) as address,
        aio.insecure_channel(address, options=limits) as channel,
    ):
        proxy = Proxied(address, channel, known, table, server, network)
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
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Compiles .proto files, name to text, as their users do; gives the folder of the stubs."""

    def compile_all(files: dict[str, str]) -> Path:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}"]
        command += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return tmp_path

    return compile_all


@pytest.fixture
def code() -> type[grpc.StatusCode]:
    return grpc.StatusCode
