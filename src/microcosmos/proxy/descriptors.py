"""The protobuf files of the living services, made when asked for and again when they change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from microcosmos.base import errors
from microcosmos.base.schema import Value
from microcosmos.registry import Endpoint, Service, Table
from microcosmos.registry.interface import Description
from microcosmos.rpc.server import CALLER, ITEMS, STREAM

from . import debug, wire
from .files import File, Method, Plan, handler_of
from .notes import Notes
from .numbers import Numbers, Pins
from .shapes import identifier, package

log = logging.getLogger("microcosmos.proxy")

PAUSE = 1.0
"""Seconds until a store that did not keep new numbers is asked again."""


class Ways(NamedTuple):
    """Who streams.

    Attributes:
        client: whether the caller sends many messages.
        server: whether the service answers many.
        items: the field of the caller's messages with what it streams, if they have others too.
        nothing: what that field is when a message does not have it; None if it must.
    """

    client: bool = False
    server: bool = False
    items: str = ""
    nothing: Any = None

    def __bool__(self) -> bool:
        return self.client or self.server


ONCE = Ways()

Schemas = Callable[[str], Awaitable[list[Description]]]
"""Gives every version of a service, with the schemas of its endpoints."""


class _Made(NamedTuple):
    """A file, and what it was made of."""

    versions: list[Service]
    endpoints: list[Endpoint]
    described: list[Description]
    file: File


class Descriptors:
    """The files of the services in a table.

    Args:
        table: the registry, as this process remembers it.
        numbers: gives fields their numbers.
        schemas: gives the schemas of a service's endpoints, from memory.
    """

    def __init__(
        self, table: Table, numbers: Numbers | None = None, schemas: Schemas | None = None
    ) -> None:
        self._table = table
        self._schemas = schemas
        self._numbers = numbers or Numbers()
        self._files: dict[str, _Made] = {}
        self._services: dict[str, str] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._asked: dict[str, float] = {}

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
        if handler_of(name) == debug.HANDLER:
            return name
        raise _no_endpoint(service, name, versions)

    def ways(self, service: str, endpoint: str) -> Ways:
        """Who streams at an endpoint; nobody, if it is not known."""
        known = self._table.endpoint(service, endpoint)
        if known is None or STREAM not in known.metadata:
            return ONCE
        caller, items = known.metadata.get(CALLER, ""), known.metadata.get(ITEMS, "")
        field = known.request.field(items)
        nothing: Any = None
        if field is not None and (field.is_list or field.is_map):
            # protobuf does not tell an empty one from none.
            nothing = [] if field.is_list else {}
        return Ways(caller in ("client", "both"), caller != "client", items, nothing)

    async def method(self, service: str, endpoint: str) -> Method:
        """The messages of an endpoint.

        Raises:
            errors.NotFound: the service is not known, or has no such endpoint.
            errors.Unavailable: see `file`.
        """
        if (method := (await self.file(service)).method(endpoint)) is None:
            raise _no_endpoint(service, endpoint, self._table.versions(service))
        return method

    async def file(self, service: str) -> File:
        """The file of a service.

        Raises:
            errors.NotFound: the service is not known.
            errors.Unavailable: none of it is alive, or the numbers of its fields cannot be kept,
                and no file of it was made before.
        """
        if not self._table.knows(service):
            detail = f"service {service} not found; `micro services` lists them"
            raise errors.NotFound(service, detail)
        if (file := self._current(service)) is not None:
            return file
        async with self._making.setdefault(service, asyncio.Lock()):
            return self._current(service) or await self._make(service)

    def _current(self, service: str) -> File | None:
        """The file that was made before, if the service is as it was then."""
        if (cached := self._files.get(service)) is None:
            return None
        versions = self._table.versions(service)
        # Services are replaced as a whole when they change, so this compares little but identity.
        return cached.file if cached.versions == versions or not versions else None

    async def _make(self, service: str) -> File:
        versions = self._table.versions(service)
        if not versions and service not in wire.PACKAGES:
            detail = f"no replica of {service} is alive; try again later"
            raise errors.Unavailable(service, detail)
        endpoints = list(merged(versions).values())
        described = await self._described(service)
        before = self._files.get(service)
        if before and before.endpoints == endpoints and before.described == described:
            made: _Made | None = before._replace(versions=versions)
        else:
            plan = Plan(service, endpoints, Notes(described))
            pins = await self._pinned(service, plan)
            made = _Made(versions, endpoints, described, plan.file(pins)) if pins else None
        if made is not None:
            self._files[service] = made
            return made.file
        if before is not None:
            return before.file
        detail = "the numbers of its fields cannot be kept now; call it by JSON, or try again later"
        raise errors.Unavailable(service, detail)

    async def _pinned(self, service: str, plan: Plan) -> Pins | None:
        """The numbers of a file, or None while new ones cannot be kept."""
        if time.monotonic() < self._asked.get(service, 0.0) + PAUSE:
            return None
        try:
            pins = await self._numbers.pin(service, plan.wanted())
        except errors.Unavailable as exc:
            self._asked[service] = time.monotonic()
            log.warning("numbers of fields of %s cannot be kept: %s", service, exc.detail)
            return None
        self._asked.pop(service, None)
        return pins

    async def _described(self, service: str) -> list[Description]:
        if self._schemas is None:
            return []
        try:
            return await self._schemas(service)
        except errors.Error:
            # It went a moment ago; its shapes are still known.
            return []

    def handlers(self) -> list[str]:
        """The full names of all gRPC services: ``helloworld.Helloworld``."""
        return sorted(
            {
                f"{package(service.name)}.{identifier(handler_of(endpoint.name))}"
                for service in self._table.services()
                for endpoint in service.endpoints
            }
        )


def merged(versions: Iterable[Service]) -> dict[str, Endpoint]:
    """The endpoints of all versions; those with one name have the fields of both."""
    endpoints: dict[str, Endpoint] = {}
    for version in versions:
        for endpoint in version.endpoints:
            known = endpoints.get(endpoint.name)
            endpoints[endpoint.name] = _both(known, endpoint) if known else endpoint
    return endpoints


def _both(one: Endpoint, other: Endpoint) -> Endpoint:
    request, response = _union(one.request, other.request), _union(one.response, other.response)
    if request is one.request and response is one.response:
        return one
    return Endpoint(name=one.name, request=request, response=response, metadata=one.metadata)


def _union(one: Value, other: Value) -> Value:
    """A tree with the fields of both; where they differ in a type, that of the first stays."""
    if one == other or one.type != other.type or not one.values or not other.values:
        return one
    theirs = {value.name: value for value in other.values}
    ours = {value.name for value in one.values}
    values = [_union(v, theirs[v.name]) if v.name in theirs else v for v in one.values]
    values += [value for value in other.values if value.name not in ours]
    return Value(name=one.name, type=one.type, values=values)


def _no_endpoint(service: str, endpoint: str, versions: Iterable[Service]) -> errors.NotFound:
    names = ", ".join(sorted(merged(versions))) or "none"
    detail = f"service {service} has no endpoint {endpoint}; it has: {names}"
    return errors.NotFound(service, detail)
