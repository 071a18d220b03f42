"""The contract of the registry: who is alive, with which endpoints.

The records have the shape that users of Micro v3 know, to the letter of the field names.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from microcosmos.base.schema import Value

TTL = 90.0
"""Seconds after which a foreign service that has not registered again is forgotten."""

REFRESH = 30.0
"""Seconds between the registrations of a living service."""

# Metadata of nodes, and in ADR-32 announcements of services and endpoints.
LANE = "micro.lane"
HOST = "micro.host"
REPLICA = "micro.replica"

UNLISTED = "micro.unlisted"
"""Metadata of an endpoint that is for programs: help pages do not list it."""


@functools.cache
def this_host() -> str:
    """An id that processes share exactly if they can share Unix sockets: this boot of this host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import platform

        return platform.node()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long a registration lives, and in which namespace (domain) it stands."""

    ttl: int = 0
    domain: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be called: ``Helloworld.Call``, with the shapes it takes and gives."""

    name: str
    request: Value = Value()
    response: Value = Value()
    metadata: dict[str, str] = {}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One living replica.

    Metadata: `LANE` is the socket it answers on, `HOST` the host that socket is on, `REPLICA`
    the process of our runtime that it is; a foreign node has none of them.
    """

    id: str
    address: str = ""
    port: int = 0
    metadata: dict[str, str] = {}


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a service and its living nodes.

    ``schemas`` has the whole schema of each endpoint by its name (see `Described`) on the way to
    the registry, which keeps them apart: who only looks for services does not carry them.
    """

    name: str
    version: str = "latest"
    metadata: dict[str, str] = {}
    endpoints: list[Endpoint] = []
    nodes: list[Node] = []
    options: Options = Options()
    schemas: dict[str, msgspec.Raw] = {}

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a name, or None."""
        return next((endpoint for endpoint in self.endpoints if endpoint.name == name), None)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One change.

    ``service`` is the version with all the nodes it has *after* the change; a ``delete`` means
    that its last node has gone. ``sequence`` counts the changes of this registry.
    """

    action: Literal["create", "update", "delete"]
    service: Service
    timestamp: int
    sequence: int = 0


class Found(msgspec.Struct):
    """An answer of GetService and ListServices."""

    services: list[Service]


class Changes(msgspec.Struct, kw_only=True):
    """A message of Follow.

    With ``snapshot`` the services of ``results`` are all there are; without it they are the
    changes since the message before. Who follows again asks after ``sequence``.
    """

    epoch: str
    sequence: int
    snapshot: bool = False
    results: list[Result] = []


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint with its whole schema.

    ``schema`` is JSON Schema 2020-12 in one object: ``request`` is what a call takes, ``items``
    what its caller streams (there only if it does), ``response`` the answer, or each of a stream
    of them, and ``$defs`` the types that these name. A foreign service may say nothing: ``{}``.
    """

    name: str
    metadata: dict[str, str] = {}
    schema: dict[str, Any] = {}


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a service with the whole schemas of its endpoints."""

    name: str
    version: str = "latest"
    metadata: dict[str, str] = {}
    endpoints: list[Described] = []


class Descriptions(msgspec.Struct):
    """An answer of Describe."""

    services: list[Description]


class Registry(Protocol):
    """Who is alive, with which endpoints."""

    async def register(self, service: Service) -> None:
        """Add a service's nodes, or renew them for another TTL.

        Raises:
            errors.BadRequest: a bad name, or no nodes.
        """

    async def deregister(self, service: Service) -> None:
        """Remove a service's nodes at once; unknown nodes are no error."""

    async def get_service(self, name: str, *, domain: str = "") -> list[Service]:
        """Every version of a service.

        Raises:
            errors.NotFound: no node of it is known.
        """

    async def list_services(self, *, domain: str = "") -> list[Service]:
        """Every service, sorted by name, then version."""

    async def describe(self, name: str = "", *, domain: str = "") -> list[Description]:
        """The whole schemas of a service, or of all, sorted by name, then version.

        Raises:
            errors.NotFound: no node of the service is known.
        """

    def watch(self, name: str = "", *, domain: str = "") -> AsyncIterator[Result]:
        """Changes from now on, of one service or of all."""


class OwnRegistry(Registry, Protocol):
    """The registry seen from the process that keeps it."""

    async def lose(self, service: Service) -> None:
        """Remove nodes whose processes have died, of a service that is expected back.

        The service stays known while it has no node: calls are a 503, not a 404.
        """

    async def expect(self, name: str, *, domain: str = "") -> None:
        """A service is about to be started: until `forget` it stays known without a node."""

    async def look(self, name: str, *, domain: str = "") -> None:
        """Ask NATS at once for the nodes of a service, or with an empty name for everyone's."""

    async def forget(self, name: str, *, domain: str = "") -> None:
        """Expect a service no longer: without a node it is not known any more."""
