"""Protobuf descriptors of services, made from what the registry says of their endpoints."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    MethodDescriptorProto,
)

from microcosmos.base import errors
from microcosmos.registry import Endpoint, Service, Table

from . import notation, wire
from .messages import Form
from .shapes import STRUCT_FILE, Shapes, identifier, package


@dataclass(frozen=True, slots=True)
class Method:
    """The two ways of an endpoint."""

    request: Form
    response: Form
    streams: bool


class File:
    """The protobuf file of a service.

    Args:
        proto: the file.
        methods: the methods in it, by endpoint.
        wrappers: the messages in it that stand for what is no struct.
    """

    def __init__(
        self,
        proto: FileDescriptorProto,
        methods: Mapping[str, MethodDescriptorProto],
        wrappers: Collection[str],
    ) -> None:
        self.proto = proto
        self.pool = _pool_of(proto)
        self._known = methods
        self._wrappers = wrappers
        # Made when first called: a service has many endpoints of which few are called this way.
        self._methods: dict[str, Method] = {}

    def method(self, endpoint: str) -> Method | None:
        """The messages of an endpoint, or None if there is no such one."""
        if (found := self._methods.get(endpoint)) is not None:
            return found
        if (known := self._known.get(endpoint)) is None:
            return None
        streams = known.client_streaming or known.server_streaming
        method = Method(self._form(known.input_type), self._form(known.output_type), streams)
        self._methods[endpoint] = method
        return method

    def _form(self, full_name: str) -> Form:
        descriptor = self.pool.FindMessageTypeByName(full_name[1:])
        kind = message_factory.GetMessageClass(descriptor)
        return Form(kind, wrapped=full_name in self._wrappers)


def fresh_pool() -> descriptor_pool.DescriptorPool:
    """A pool with the well-known types alone: one that has a file takes no changed one."""
    pool = descriptor_pool.DescriptorPool()
    for known in (struct_pb2, any_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    return pool


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


def describe(service: str, endpoints: Sequence[Endpoint]) -> File:
    """The file of a service: Micro's own for a core service, else from the endpoints' shapes.

    Args:
        service: its name; the package is made of it.
        endpoints: what it has; of a core service without any, all that Micro's has.
    """
    proto = notation.read(service, wire.PACKAGES.get(service, ""))
    proto.name, proto.package = f"{package(service)}.proto", package(service)
    proto.dependency.append(STRUCT_FILE)
    own = {f"{one.name}.{method.name}": method for one in proto.service for method in one.method}
    names = {endpoint.name for endpoint in endpoints} or set(own)
    methods = {name: method for name, method in own.items() if name in names}
    del proto.service[:]
    shapes = Shapes(proto, {identifier(_handler(name)) for name in names})
    rest = (endpoint for endpoint in endpoints if endpoint.name not in methods)
    methods |= _shaped(shapes, sorted(rest, key=lambda endpoint: endpoint.name))
    for handler, group in itertools.groupby(sorted(methods), _handler):
        proto.service.add(name=identifier(handler), method=[methods[name] for name in group])
    return File(proto, methods, shapes.wrappers)


def _handler(endpoint: str) -> str:
    return endpoint.partition(".")[0]


def _shaped(shapes: Shapes, endpoints: Sequence[Endpoint]) -> dict[str, MethodDescriptorProto]:
    """Methods by the shapes of endpoints, whose messages are added to the file."""
    for endpoint in endpoints:
        shapes.collect(endpoint.request)
        shapes.collect(endpoint.response)
    shapes.write()
    return {endpoint.name: _method(shapes, endpoint) for endpoint in endpoints}


def _method(shapes: Shapes, endpoint: Endpoint) -> MethodDescriptorProto:
    name = endpoint.name.partition(".")[2]
    return MethodDescriptorProto(
        name=name,
        input_type=shapes.root(endpoint.request, f"{name}Request"),
        output_type=shapes.root(endpoint.response, f"{name}Response"),
    )


class Descriptors:
    """The files of the services in a table, made when asked for and again when they change.

    Args:
        table: the registry, as this process remembers it.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._files: dict[str, tuple[list[Service], list[Endpoint], File]] = {}
        self._services: dict[str, str] = {}

    def service_of(self, name: str) -> str | None:
        """The service that a package stands for: the one of that name, else the first like it."""
        if self._table.knows(name):
            return name
        if (service := self._services.get(name)) and self._table.knows(service):
            return service
        for known in self._table.services():
            if package(known.name) == name:
                self._services[name] = known.name
                return known.name
        return None

    def endpoint(self, path: str) -> tuple[str, str]:
        """The service and the endpoint that a path names.

        Raises:
            errors.NotFound: there is none of either.
        """
        full_name, _, method = path.removeprefix("/").partition("/")
        named, _, handler = full_name.rpartition(".")
        if not (named and handler and method) or "/" in method:
            detail = f"{path[:80]!r} names no endpoint; use /<service>.<Handler>/<Method>"
            raise errors.NotFound("proxy", detail)
        service = self.service_of(named) or named
        return service, self._true_name(service, f"{handler}.{method}")

    def _true_name(self, service: str, name: str) -> str:
        versions = self._table.versions(service)
        if not versions or self._table.endpoint(service, name) is not None:
            return name
        for known in merged(versions):
            handler, _, method = known.partition(".")
            if f"{identifier(handler)}.{method}" == name:
                return known
        raise _no_endpoint(service, name, versions)

    def method(self, service: str, endpoint: str) -> Method:
        """The messages of an endpoint.

        Raises:
            errors.NotFound: the service is not known, or has no such endpoint.
        """
        if (method := self.file(service).method(endpoint)) is None:
            raise _no_endpoint(service, endpoint, self._table.versions(service))
        return method

    def file(self, service: str) -> File:
        """The file of a service.

        Raises:
            errors.NotFound: the service is not known.
            errors.Unavailable: none of it is alive, and no file of it was made before.
        """
        if not self._table.knows(service):
            detail = f"service {service} not found; `micro services` lists them"
            raise errors.NotFound(service, detail)
        versions = self._table.versions(service)
        cached = self._files.get(service)
        # Services are replaced as a whole when they change, so this compares little but identity.
        if cached is not None and (cached[0] == versions or not versions):
            return cached[2]
        if not versions and service not in wire.PACKAGES:
            detail = f"no replica of {service} is alive; try again later"
            raise errors.Unavailable(service, detail)
        endpoints = list(merged(versions).values())
        same = cached is not None and cached[1] == endpoints
        file = cached[2] if cached is not None and same else describe(service, endpoints)
        self._files[service] = (versions, endpoints, file)
        return file

    def handlers(self) -> list[str]:
        """The full names of all gRPC services: ``helloworld.Helloworld``."""
        return sorted(
            {
                f"{package(service.name)}.{identifier(_handler(endpoint.name))}"
                for service in self._table.services()
                for endpoint in service.endpoints
            }
        )


def merged(versions: Iterable[Service]) -> dict[str, Endpoint]:
    """The endpoints of all versions; of two with one name the one that calls find first."""
    endpoints: dict[str, Endpoint] = {}
    for version in versions:
        for endpoint in version.endpoints:
            endpoints.setdefault(endpoint.name, endpoint)
    return endpoints


def _no_endpoint(service: str, endpoint: str, versions: Iterable[Service]) -> errors.NotFound:
    names = ", ".join(sorted(merged(versions))) or "none"
    detail = f"service {service} has no endpoint {endpoint}; it has: {names}"
    return errors.NotFound(service, detail)
