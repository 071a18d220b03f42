"""Protobuf files of services, made from what the registry says of their endpoints."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    MethodDescriptorProto,
)
from google.protobuf.message import Message

from microcosmos.base import errors, names
from microcosmos.registry import Endpoint
from microcosmos.rpc.server import CALLER, STREAM

from . import notation, wire
from .messages import Form
from .notes import Notes
from .numbers import Pins, Wanted
from .shapes import STRUCT_FILE, Shapes, comment, identifier, package

# Field numbers of descriptor.proto: a file's services, and a service's methods.
_SERVICES, _METHODS = 6, 2


@dataclass(frozen=True, slots=True)
class Method:
    """The two ways of an endpoint.

    Attributes:
        request: what its client sends.
        response: what it answers.
    """

    request: Form
    response: Form


class File:
    """The protobuf file of a service.

    Args:
        proto: the file.
        methods: the methods in it, by endpoint.
        wrappers: the messages in it that stand for what is no struct.
        required: see `messages.Form`.
    """

    def __init__(
        self,
        proto: FileDescriptorProto,
        methods: Mapping[str, MethodDescriptorProto],
        wrappers: Collection[str],
        required: Mapping[str, Collection[str]],
    ) -> None:
        self.proto = proto
        self.pool = _pool_of(proto)
        self._known = methods
        self._wrappers = wrappers
        self._required = required
        # Made when first called: a service has many endpoints of which few are called this way.
        self._methods: dict[str, Method] = {}

    def method(self, endpoint: str) -> Method | None:
        """The messages of an endpoint, or None if there is no such one."""
        if (found := self._methods.get(endpoint)) is not None:
            return found
        if (known := self._known.get(endpoint)) is None:
            return None
        method = Method(self._form(known.input_type), self._form(known.output_type))
        self._methods[endpoint] = method
        return method

    def message(self, name: str) -> Form:
        """A message that is in the file, by its name alone.

        Raises:
            KeyError: it is not.
        """
        return self._form(f".{self.proto.package}.{name}")

    def _form(self, full_name: str) -> Form:
        descriptor = self.pool.FindMessageTypeByName(full_name[1:])
        kind = message_factory.GetMessageClass(descriptor)
        return Form(kind, wrapped=full_name in self._wrappers, required=self._required)


def fresh_pool() -> descriptor_pool.DescriptorPool:
    """A pool with the well-known types alone: one that has a file takes no changed one."""
    pool = descriptor_pool.DescriptorPool()
    for known in (struct_pb2, any_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    return pool


def message_class(file: FileDescriptorProto, full_name: str) -> type[Message]:
    """The class of one message of a file that stands alone."""
    pool = fresh_pool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


def _pool_of(proto: FileDescriptorProto) -> descriptor_pool.DescriptorPool:
    pool = fresh_pool()
    try:
        pool.Add(proto)
    except TypeError as exc:
        # Only a foreign service can publish such shapes: two fields of one name, say.
        detail = f"its shapes make no protobuf messages; call it by JSON ({exc})"
        raise errors.InternalServerError(proto.package, detail) from None
    return pool


def file_of(pool: descriptor_pool.DescriptorPool, symbol: str) -> str:
    """The name of the file in which a message, a service, or a part of one is.

    Raises:
        KeyError: the pool has no such symbol.
    """
    try:
        found = pool.FindFileContainingSymbol(symbol)
    except KeyError:
        # The pool does not look into services.
        handler, _, method = symbol.rpartition(".")
        service = pool.FindServiceByName(handler)
        if method not in service.methods_by_name:
            raise
        found = service.file
    return str(found.name)


class Plan:
    """The file of a service, complete but for the numbers of its fields.

    Args:
        service: its name; the package is made of it.
        endpoints: what it has; of a core service without any, all that Micro's has.
        notes: what is known of its structs beside their shapes.
    """

    def __init__(
        self, service: str, endpoints: Sequence[Endpoint], notes: Notes | None = None
    ) -> None:
        proto = notation.read(service, wire.PACKAGES.get(service, ""))
        proto.name, proto.package = f"{package(service)}.proto", package(service)
        own = {
            f"{one.name}.{method.name}": method for one in proto.service for method in one.method
        }
        del proto.service[:]
        known = {endpoint.name: endpoint for endpoint in endpoints}
        shown = [name for name in own if name in known or not known]
        own_handler = names.handler_of(service)
        self._proto = proto
        self._methods = {name: own[name] for name in shown}
        self._about = {name: one.metadata.get("description", "") for name, one in known.items()}
        self._shaped = sorted(
            (one for one in endpoints if one.name not in own),
            key=lambda one: (handler_of(one.name) != own_handler, one.name),
        )
        taken = {identifier(handler_of(name)) for name in (*shown, *known)}
        self._shapes = Shapes(proto, taken, notes)
        for endpoint in self._shaped:
            self._shapes.collect(endpoint.request, f"{endpoint.name}Request")
            self._shapes.collect(endpoint.response, f"{endpoint.name}Response")

    def wanted(self) -> Wanted:
        """What needs numbers."""
        return self._shapes.wanted()

    def file(self, pins: Pins) -> File:
        """The file, with numbers from a table that has all that are wanted."""
        self._shapes.write(pins)
        methods = self._methods | {one.name: self._method(one) for one in self._shaped}
        proto = self._proto
        for handler, group in itertools.groupby(sorted(methods), handler_of):
            one = proto.service.add(name=identifier(handler))
            for name in group:
                at = (_SERVICES, len(proto.service) - 1, _METHODS, len(one.method))
                one.method.add().CopyFrom(methods[name])
                comment(proto, at, self._about.get(name, ""))
        if _uses(proto, ".google.protobuf."):
            proto.dependency.append(STRUCT_FILE)
        return File(proto, methods, self._shapes.wrappers, self._shapes.required)

    def _method(self, endpoint: Endpoint) -> MethodDescriptorProto:
        caller = endpoint.metadata.get(CALLER, "")
        return MethodDescriptorProto(
            name=endpoint.name.partition(".")[2],
            input_type=self._shapes.root(f"{endpoint.name}Request"),
            output_type=self._shapes.root(f"{endpoint.name}Response"),
            client_streaming=caller in ("client", "both"),
            server_streaming=endpoint.metadata.get(STREAM) == "true" and caller != "client",
        )


def describe(
    service: str,
    endpoints: Sequence[Endpoint],
    pins: Pins | None = None,
    notes: Notes | None = None,
) -> File:
    """The file of a service: Micro's own for a core service, else from the endpoints' shapes.

    Args:
        service: its name; the package is made of it.
        endpoints: what it has; of a core service without any, all that Micro's has.
        pins: the numbers it had so far.
        notes: what is known of its structs beside their shapes.
    """
    plan = Plan(service, endpoints, notes)
    return plan.file((pins or Pins()).grown(plan.wanted()))


def handler_of(endpoint: str) -> str:
    return endpoint.partition(".")[0]


def _uses(proto: FileDescriptorProto, prefix: str) -> bool:
    """Whether a message or a method names a type of another package."""
    messages = [*proto.message_type, *(n for m in proto.message_type for n in m.nested_type)]
    return any(field.type_name.startswith(prefix) for m in messages for field in m.field) or any(
        kind.startswith(prefix)
        for service in proto.service
        for method in service.method
        for kind in (method.input_type, method.output_type)
    )
