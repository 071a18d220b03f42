"""Server reflection, ``v1`` and ``v1alpha``, from the live table.

The servicer that comes with grpcio knows its names once and for all; ours asks the table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, struct_pb2, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from microcosmos.base import errors

from . import cosmo, health, notation, status, wire
from .descriptors import Descriptors
from .files import file_of, fresh_pool
from .standing import Standing

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

_Context = aio.ServicerContext[Any, Any]
_Response = reflection_pb2.ServerReflectionResponse


Answer = Callable[[Any, _Context], AsyncIterator[Any]]
"""Answers a stream of questions."""


def handlers(answer: Answer) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """What answers the one method of both versions, by path: they differ in name alone."""
    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=_Response.SerializeToString,
    )
    return dict.fromkeys((f"/{name}/ServerReflectionInfo" for name in (V1, V1ALPHA)), handler)


def _file_of(module: Any) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def _own_files() -> list[FileDescriptorProto]:
    """The files of what the proxy itself answers and sends."""
    alpha = _file_of(reflection_pb2)
    v1 = text_format.Parse(
        text_format.MessageToString(alpha).replace("v1alpha", "v1"), FileDescriptorProto()
    )
    errors_file = notation.read("errors", wire.ERRORS)
    status_file = notation.read("google.rpc", wire.STATUS)
    return [alpha, v1, _file_of(health_pb2), errors_file, status_file, cosmo.file()]


class Reflection:
    """Tells clients which services, methods and messages there are."""

    def __init__(self, descriptors: Descriptors, standing: Standing) -> None:
        self._descriptors = descriptors
        self._standing = standing
        self._own = fresh_pool()
        self._files = {"google/protobuf/struct.proto": _file_of(struct_pb2)}
        self._files["google/protobuf/any.proto"] = _file_of(any_pb2)
        for file in _own_files():
            self._own.Add(file)
            self._files[file.name] = file

    async def answer(self, _: object, context: _Context) -> AsyncIterator[Any]:
        """Answer each question of a stream."""
        while (request := await self._standing.wait(context.read())) not in (None, aio.EOF):
            yield await self._one(request)

    async def _one(self, request: Any) -> Any:
        try:
            answer = await self._asked(request, request.WhichOneof("message_request"))
        except KeyError:
            answer = _refused(errors.NotFound("proxy", "not found"))
        except errors.Error as error:
            answer = _refused(error)
        answer.valid_host = request.host
        answer.original_request.CopyFrom(request)
        return answer

    async def _asked(self, request: Any, what: str | None) -> Any:
        match what:
            case "list_services":
                return self._services()
            case "file_by_filename":
                return self._with_imports(await self._by_name(request.file_by_filename))
            case "file_containing_symbol":
                return self._with_imports(await self._by_symbol(request.file_containing_symbol))
            case "all_extension_numbers_of_type":
                # proto3 has no extensions, but clients ask about every message they describe.
                name = request.all_extension_numbers_of_type
                await self._by_symbol(name)
                answer = _Response()
                answer.all_extension_numbers_response.base_type_name = name
                return answer
        raise KeyError(what)

    def _services(self) -> Any:
        answer = _Response()
        own = [V1, V1ALPHA, health.NAME]
        if self._descriptors.service_of(cosmo.FUNCTIONS) is not None:
            own.append(cosmo.NAME)
        for name in sorted((*own, *self._descriptors.handlers())):
            answer.list_services_response.service.add(name=name)
        return answer

    async def _by_name(self, name: str) -> FileDescriptorProto:
        if name in self._files:
            return self._files[name]
        named = name.removesuffix(".proto")
        if named == name:
            raise KeyError(name)
        service = self._descriptors.service_of(named) or named
        return (await self._descriptors.file(service)).proto

    async def _by_symbol(self, symbol: str) -> FileDescriptorProto:
        parts = symbol.split(".")
        for length in range(len(parts) - 1, 0, -1):
            service = self._descriptors.service_of(".".join(parts[:length]))
            if service is not None:
                file = await self._descriptors.file(service)
                file_of(file.pool, symbol)
                return file.proto
        return self._files[file_of(self._own, symbol)]

    def _with_imports(self, file: FileDescriptorProto) -> Any:
        answer = _Response()
        for one in (file, *(self._files[name] for name in file.dependency)):
            answer.file_descriptor_response.file_descriptor_proto.append(one.SerializeToString())
        return answer


def _refused(error: errors.Error) -> Any:
    answer = _Response()
    code, text, _ = status.to_grpc(error)
    answer.error_response.error_code = code.value[0]
    answer.error_response.error_message = text
    return answer
