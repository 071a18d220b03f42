"""The registry served over rpc, with the endpoints and the answers of Micro v3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, cast

import msgspec

from microcosmos.base import context, errors
from microcosmos.base.names import Taken, nobody
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
from .memory import MemoryRegistry, concerns, domain_of, placed

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


class Account(Protocol):
    """What the registry asks of who calls; `auth` has it."""

    @property
    def id(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    def enters(self, namespace: str) -> bool: ...

    def administers(self, namespace: str) -> bool: ...


class RegistryService:
    """Serves a registry.

    Each call is about the namespace it is made in, unless it names another one that its account
    may enter.

    Args:
        registry: the core's own.
        guarded: whether there are accounts; without them everybody may do everything.
        taken: says who else has the name of a service, for people; empty is nobody.
        growing: whether the core is still starting; nobody is told then that a service is not
            there, nor given a list that lacks it.
    """

    def __init__(
        self,
        registry: MemoryRegistry,
        *,
        guarded: bool = False,
        taken: Taken = nobody,
        growing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._taken = taken
        self._growing = growing
        self._registry = registry
        self._guarded = guarded

    def hosted(self) -> Hosted:
        """The service ``registry``."""
        unlisted = {UNLISTED: "true"}
        endpoints = [
            endpoint(self.get_service, NAME, lenient=True, response=Found, access="read"),
            endpoint(self.list_services, NAME, lenient=True, response=Found, access="read"),
            endpoint(self.describe, NAME, lenient=True, metadata=unlisted, access="read"),
            endpoint(self.register, NAME, lenient=True, access="service"),
            endpoint(self.deregister, NAME, lenient=True, access="service"),
            endpoint(self.watch, NAME, lenient=True, access="account"),
            endpoint(self.follow, NAME, lenient=True, metadata=unlisted, access="service"),
        ]
        return Hosted(NAME, endpoints)

    async def get_service(self, service: str, options: Options = DEFAULTS) -> Shown:
        """Every version of a service, with its nodes, endpoints and their shapes."""
        registry, domain = self._registry, self._domain(options.domain)
        try:
            return shown(await registry.get_service(service, domain=domain))
        except errors.NotFound:
            if not service:
                raise
            self._check_grown()
        # A foreign one may have come since everyone was asked.
        await registry.look(service, domain=domain)
        return shown(await registry.get_service(service, domain=domain))

    async def list_services(self, request: ListRequest) -> Shown:
        """Every service, with its nodes, endpoints and their shapes."""
        domain = self._domain(request.options.domain)
        self._check_grown()
        return shown(await self._registry.list_services(domain=domain))

    async def describe(self, service: str = "", options: Options = DEFAULTS) -> Descriptions:
        """The JSON Schemas of every endpoint of a service, or of all services."""
        domain = self._domain(options.domain)
        self._check_grown()
        return Descriptions(await self._registry.describe(service, domain=domain))

    async def register(self, service: Service) -> None:
        """Add a service's nodes, or renew them for another 90 seconds."""
        owned = self._owned(service)
        await self._check_taken(owned)
        await self._registry.register(owned)

    async def deregister(self, service: Service) -> None:
        """Remove a service's nodes at once."""
        await self._registry.deregister(self._owned(service))

    async def watch(
        self, service: str = "", options: Options = DEFAULTS
    ) -> AsyncIterator[ShownResult]:
        """The changes from now on, of one service or of all."""
        async for result in self._registry.watch(service, domain=self._domain(options.domain)):
            yield ShownResult(result.action, _shown(result.service), str(result.timestamp))

    async def follow(
        self, service: str = "", options: Options = DEFAULTS, after: int = -1, epoch: str = ""
    ) -> AsyncIterator[Changes]:
        """Every service, then all changes; after a sequence that is remembered, only these."""
        registry, domain = self._registry, self._domain(options.domain)
        # What its caller knows of an earlier core stays true until this one is whole.
        self._check_grown()
        if after < 0 or epoch != registry.epoch:
            changes = await self._snapshot(service, domain)
            yield changes
            after = changes.sequence
        while True:
            try:
                results = await registry.changes(after, timeout=None)
            except errors.Conflict:
                changes = await self._snapshot(service, domain)
                yield changes
                after = changes.sequence
                continue
            after = results[-1].sequence
            news = [result for result in results if concerns(result, service, domain)]
            if news:
                yield Changes(epoch=registry.epoch, sequence=after, results=news)

    def _check_grown(self) -> None:
        """Answer for no more than there is.

        Raises:
            errors.Unavailable: the core is still starting.
        """
        if self._growing():
            raise errors.Unavailable(NAME, "the core is still starting; try again")

    def _domain(self, named: str) -> str:
        """The namespace that a call is about.

        Raises:
            errors.Unauthorized, errors.Forbidden: it names one that its account may not enter.
        """
        here = context.current()
        if not named or named == here.namespace or not self._guarded:
            return named or here.namespace
        if here.account is None:
            detail = f"log in to see the services of namespace {named[:80]}"
            raise errors.Unauthorized(NAME, detail)
        if not _account().enters(named):
            raise errors.Forbidden(NAME, f"{_account().id} may not enter namespace {named[:80]}")
        return named

    def _owned(self, service: Service) -> Service:
        """A record in the namespace of its call, if its account may speak for it.

        Raises:
            errors.Forbidden: it is another service's.
        """
        domain = self._domain(service.options.domain or service.metadata.get("domain", ""))
        if self._guarded and not _account().administers(domain):
            _check_own(service, _account(), domain)
        return placed(service, domain)

    async def _check_taken(self, service: Service) -> None:
        """Refuse a name that is something else's; what that is registers the platform itself.

        Raises:
            errors.Conflict: it is; the detail says whose.
        """
        if context.current().account is not None and _account().type == "platform":
            return
        if whose := await self._taken(domain_of(service), service.name):
            raise errors.Conflict(NAME, f"{service.name} cannot be registered: {whose}")

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


def _account() -> Account:
    """Who calls an endpoint that asks for an account."""
    return cast("Account", context.current().account)


def _check_own(service: Service, account: Account, domain: str) -> None:
    """Refuse a record that a service gives of another, or of nodes that another's could be."""
    if (account.id, account.namespace) != (service.name, domain):
        detail = f"{account.id} of {account.namespace} may not speak for {service.name} of {domain}"
        raise errors.Forbidden(NAME, detail)
    for node in service.nodes:
        if not node.id.startswith(f"{service.name}-"):
            detail = f"the node {node.id[:80]!r} is not called after its service {service.name}"
            raise errors.Forbidden(NAME, detail)


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
