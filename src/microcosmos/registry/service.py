"""The registry served over rpc, with the endpoints and the answers of Micro v3."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from microcosmos.base import errors
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Hosted

from .interface import (
    UNLISTED,
    Changes,
    Descriptions,
    Endpoint,
    Found,
    Options,
    Result,
    Service,
)
from .memory import MemoryRegistry, concerns, domain_of

NAME = "registry"
DEFAULTS = Options()


class ListRequest(msgspec.Struct):
    """What ListServices takes; one parameter alone would be the whole request."""

    options: Options = DEFAULTS


class ShownOptions(msgspec.Struct):
    """`Options`, with its integer as text."""

    ttl: str
    domain: str


class ShownNode(msgspec.Struct):
    """A `Node`, with its integer as text."""

    id: str
    address: str
    port: str
    metadata: dict[str, str]


class ShownService(msgspec.Struct):
    """A `Service`, with its integers as texts."""

    name: str
    version: str
    metadata: dict[str, str]
    endpoints: list[Endpoint]
    nodes: list[ShownNode]
    options: ShownOptions


class ShownResult(msgspec.Struct):
    """A `Result`, with its integer as text."""

    action: str
    service: ShownService
    timestamp: str


class Shown(msgspec.Struct):
    """What GetService and ListServices answer."""

    services: list[ShownService]


class RegistryService:
    """Serves a registry.

    Args:
        registry: the core's own.
    """

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry

    def hosted(self) -> Hosted:
        """The service ``registry``."""
        endpoints = [
            endpoint(self.get_service, NAME, lenient=True, response=Found),
            endpoint(self.list_services, NAME, lenient=True, response=Found),
            endpoint(self.describe, NAME, lenient=True, metadata={UNLISTED: "true"}),
            endpoint(self.register, NAME, lenient=True),
            endpoint(self.deregister, NAME, lenient=True),
            endpoint(self.watch, NAME, lenient=True),
            endpoint(self.follow, NAME, lenient=True, metadata={UNLISTED: "true"}),
        ]
        return Hosted(NAME, endpoints)

    async def get_service(self, service: str, options: Options = DEFAULTS) -> Shown:
        """Every version of a service, with its nodes, endpoints and their shapes."""
        registry = self._registry
        try:
            return shown(await registry.get_service(service, domain=options.domain))
        except errors.NotFound:
            if not service:
                raise
        # A foreign one may have come since everyone was asked.
        await registry.look(service)
        return shown(await registry.get_service(service, domain=options.domain))

    async def list_services(self, request: ListRequest) -> Shown:
        """Every service, with its nodes, endpoints and their shapes."""
        return shown(await self._registry.list_services(domain=request.options.domain))

    async def describe(self, service: str = "", options: Options = DEFAULTS) -> Descriptions:
        """The JSON Schemas of every endpoint of a service, or of all services."""
        return Descriptions(await self._registry.describe(service, domain=options.domain))

    async def register(self, service: Service) -> None:
        """Add a service's nodes, or renew them for another 90 seconds."""
        await self._registry.register(service)

    async def deregister(self, service: Service) -> None:
        """Remove a service's nodes at once."""
        await self._registry.deregister(service)

    async def watch(
        self, service: str = "", options: Options = DEFAULTS
    ) -> AsyncIterator[ShownResult]:
        """The changes from now on, of one service or of all."""
        async for result in self._registry.watch(service, domain=options.domain):
            yield ShownResult(result.action, _shown(result.service), str(result.timestamp))

    async def follow(
        self, service: str = "", options: Options = DEFAULTS, after: int = -1, epoch: str = ""
    ) -> AsyncIterator[Changes]:
        """Every service, then all changes; after a sequence that is remembered, only these."""
        registry = self._registry
        if after < 0 or epoch != registry.epoch:
            changes = await self._snapshot(service, options.domain)
            yield changes
            after = changes.sequence
        while True:
            try:
                results = await registry.changes(after, timeout=None)
            except errors.Conflict:
                changes = await self._snapshot(service, options.domain)
                yield changes
                after = changes.sequence
                continue
            after = results[-1].sequence
            news = [result for result in results if concerns(result, service, options.domain)]
            if news:
                yield Changes(epoch=registry.epoch, sequence=after, results=news)

    async def _snapshot(self, name: str, domain: str) -> Changes:
        services = self._registry.known(domain)
        results = [
            Result(action="create", service=service, timestamp=0)
            for service in services
            if not name or service.name == name
        ]
        registry = self._registry
        return Changes(
            epoch=registry.epoch, sequence=registry.sequence, snapshot=True, results=results
        )


def shown(services: list[Service]) -> Shown:
    """Services as Micro prints them: every field there, 64-bit integers as texts."""
    return Shown([_shown(service) for service in services])


def _shown(service: Service) -> ShownService:
    return ShownService(
        service.name,
        service.version,
        {"domain": domain_of(service), **service.metadata},
        service.endpoints,
        [ShownNode(node.id, node.address, str(node.port), node.metadata) for node in service.nodes],
        ShownOptions(str(service.options.ttl), service.options.domain),
    )
