"""The registry in memory: the one of the core process, and of tests.

Nothing is written down: after a restart the core asks every service by ADR-32 who it is
(`discovery`), and services register again by themselves.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import msgspec

from microcosmos.base import clock as clocks
from microcosmos.base import codec, errors, names
from microcosmos.base.context import DEFAULT_NAMESPACE as DEFAULT_DOMAIN

from .interface import (
    HOST,
    REPLICA,
    TTL,
    Described,
    Description,
    Result,
    Service,
    this_host,
)

_REMEMBERED = 4096

LEFT = 30.0
"""Seconds for which nobody else is believed about a node that has said that it leaves."""

Verb = Literal["register", "deregister", "lose"]
"""What a registry can be told of a service."""

_Key = tuple[str, str, str]


class MemoryRegistry:
    """See `interface.Registry`.

    A node that is a process of our runtime (metadata `REPLICA`) on this host does not expire:
    whoever watches that process deregisters it, so that a busy one is slow, not gone.

    Attributes:
        epoch: tells this registry from one before it and from those of other cores.
        sequence: of the last change.
        tellers: by namespace, what lets the other registries of a cluster know what this one was
            told; see `gossip`.
        finders: by namespace, what asks NATS who is there; see `discovery`.

    Args:
        clock: where the time of expiry comes from.
        host: whose processes are watched here; this one unless said.
    """

    def __init__(self, clock: clocks.Clock = clocks.SYSTEM, *, host: str = "") -> None:
        self._clock = clock
        self._host = host or this_host()
        self.tellers: dict[str, Callable[[Verb, Service], Awaitable[None]]] = {}
        self.finders: dict[str, Callable[[str], Awaitable[None]]] = {}
        self._services: dict[_Key, Service] = {}
        self._schemas: dict[_Key, dict[str, dict[str, Any]]] = {}
        self._expected: set[tuple[str, str]] = set()
        self._left: dict[tuple[_Key, str], float] = {}
        self._expiry: dict[tuple[_Key, str], float] = {}
        self._results: deque[Result] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()
        self._closed = False
        self._listeners: list[Callable[[Result], None]] = []
        self.epoch = secrets.token_hex(8)
        self.sequence = 0

    def listen(self, listener: Callable[[Result], None]) -> None:
        """Tell of every change as it happens, in this process."""
        self._listeners.append(listener)

    async def register(self, service: Service) -> None:
        """See `interface.Registry`."""
        self._register(service)
        await self._said("register", service)

    async def deregister(self, service: Service) -> None:
        """See `interface.Registry`."""
        self._leave(service)
        await self._said("deregister", service)

    async def lose(self, service: Service) -> None:
        """See `interface.OwnRegistry`."""
        self._remove(_key(service), {node.id for node in service.nodes}, expected=True)
        await self._said("lose", service)

    async def hear(self, verb: Verb, service: Service) -> None:
        """Take over what another registry of the cluster was told."""
        if verb == "register":
            self._register(service)
        elif verb == "deregister":
            self._leave(service)
        else:
            self._remove(_key(service), {node.id for node in service.nodes})

    def _leave(self, service: Service) -> None:
        key, gone = _key(service), {node.id for node in service.nodes}
        self._left.update(dict.fromkeys(((key, id) for id in gone), self._clock.monotonic()))
        self._remove(key, gone)

    def left(self, service: Service) -> bool:
        """Whether a node of this has just said that it leaves: what is heard of it now is old."""
        key = _key(service)
        return any((key, node.id) in self._left for node in service.nodes)

    async def _said(self, verb: Verb, service: Service) -> None:
        if tell := self.tellers.get(domain_of(service)):
            await tell(verb, service)

    def _register(self, service: Service) -> None:
        names.check_service(service.name)
        if not service.nodes:
            raise errors.BadRequest("registry", f"{service.name} has no nodes to register")
        for endpoint in service.endpoints:
            names.check_endpoint(endpoint.name)
        key = _key(service)
        known = self._services.get(key)
        nodes = {node.id: node for node in (known.nodes if known else [])}
        nodes.update((node.id, node) for node in service.nodes)
        merged = msgspec.structs.replace(service, nodes=list(nodes.values()), schemas={})
        self._renew(key, service)
        if service.schemas:
            self._schemas[key] = _decoded(service.schemas)
        if merged != known:
            self._services[key] = merged
            self._tell("update" if known else "create", merged)

    def _renew(self, key: _Key, service: Service) -> None:
        expiry = self._clock.monotonic() + (service.options.ttl or TTL)
        for node in service.nodes:
            if node.metadata.get(REPLICA) and node.metadata.get(HOST, self._host) == self._host:
                self._expiry.pop((key, node.id), None)
            else:
                self._expiry[(key, node.id)] = expiry

    async def miss(self, service: Service) -> None:
        """Remove nodes that nobody listens for any more; of a service that is expected, `lose`."""
        expected = (domain_of(service), service.name) in self._expected
        self._remove(_key(service), {node.id for node in service.nodes}, expected=expected)
        await self._said("lose", service)

    def has(self, service: Service) -> bool:
        """Whether every node of a service is known."""
        known = self._services.get(_key(service))
        ids = {node.id for node in known.nodes} if known else set()
        return all(node.id in ids for node in service.nodes)

    async def expect(self, name: str, *, domain: str = "") -> None:
        """See `interface.OwnRegistry`."""
        self._expected.add((domain or DEFAULT_DOMAIN, name))

    async def look(self, name: str, *, domain: str = "") -> None:
        """See `interface.OwnRegistry`."""
        if find := self.finders.get(domain or DEFAULT_DOMAIN):
            await find(name)

    async def forget(self, name: str, *, domain: str = "") -> None:
        """See `interface.OwnRegistry`."""
        whose = (domain or DEFAULT_DOMAIN, name)
        self._expected.discard(whose)
        for key, service in list(self._services.items()):
            if key[:2] == whose and not service.nodes:
                self._delete(key, service)

    def drop(self, domain: str) -> None:
        """Forget all of a namespace that is no more."""
        self._expected = {one for one in self._expected if one[0] != domain}
        for key, service in list(self._services.items()):
            if key[0] == domain:
                self._remove(key, {node.id for node in service.nodes})
                if key in self._services:
                    self._delete(key, msgspec.structs.replace(service, nodes=[]))

    def _remove(self, key: _Key, gone: set[str], *, expected: bool = False) -> None:
        known = self._services.get(key)
        if known is None:
            return
        for node_id in gone:
            self._expiry.pop((key, node_id), None)
        kept = [node for node in known.nodes if node.id not in gone]
        if len(kept) == len(known.nodes):
            return
        rest = msgspec.structs.replace(known, nodes=kept)
        if kept or expected:
            self._services[key] = rest
            self._tell("update", rest)
        else:
            self._delete(key, rest)

    def _delete(self, key: _Key, service: Service) -> None:
        del self._services[key]
        self._schemas.pop(key, None)
        self._tell("delete", service)

    def expire(self) -> None:
        """Forget the nodes whose time has run out."""
        now = self._clock.monotonic()
        self._left = {one: at for one, at in self._left.items() if now - at < LEFT}
        for key, node_id in [at for at, due in self._expiry.items() if due <= now]:
            self._remove(key, {node_id})

    async def get_service(self, name: str, *, domain: str = "") -> list[Service]:
        self.expire()
        domain = domain or DEFAULT_DOMAIN
        found = [
            s for (d, n, _), s in self._services.items() if n == name and d == domain and s.nodes
        ]
        if not found:
            raise errors.NotFound(
                "registry", f"service {name} not found; `micro services` lists them"
            )
        return found

    async def list_services(self, *, domain: str = "") -> list[Service]:
        return [service for service in self.known(domain) if service.nodes]

    def known(self, domain: str = "") -> list[Service]:
        """Every service, also those that are expected back and have no node now."""
        self.expire()
        domain = domain or DEFAULT_DOMAIN
        return [self._services[key] for key in sorted(self._services) if key[0] == domain]

    async def describe(self, name: str = "", *, domain: str = "") -> list[Description]:
        """See `interface.Registry`."""
        of_domain = self.known(domain)
        if name:
            await self.get_service(name, domain=domain)
            of_domain = [service for service in of_domain if service.name == name]
        return [self._described(service) for service in of_domain if service.nodes]

    def _described(self, service: Service) -> Description:
        schemas = self._schemas.get(_key(service), {})
        return Description(
            name=service.name,
            version=service.version,
            metadata=service.metadata,
            endpoints=[
                Described(name=one.name, metadata=one.metadata, schema=schemas.get(one.name, {}))
                for one in service.endpoints
            ],
        )

    def watch(self, name: str = "", *, domain: str = "") -> AsyncIterator[Result]:
        return self._watch(self.sequence, name, domain)

    async def _watch(self, after: int, name: str, domain: str) -> AsyncIterator[Result]:
        while True:
            for result in await self.changes(after, timeout=None):
                after = result.sequence
                if concerns(result, name, domain):
                    yield result

    async def changes(self, after: int, *, timeout: float | None) -> list[Result]:
        """The changes with a sequence greater than ``after``; waits up to ``timeout`` s for one.

        Raises:
            errors.Conflict: they are no longer remembered; read the whole list.
            errors.Unavailable: the registry was closed.
        """
        self.expire()
        if self.sequence <= after and not self._closed:
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                return []
        if self._closed:
            raise errors.Unavailable("registry", "the registry stops")
        if self._results and self._results[0].sequence > after + 1:
            raise errors.Conflict("registry", "these changes are no longer remembered")
        return [result for result in self._results if result.sequence > after]

    def close(self) -> None:
        """Let go of everyone who waits for changes."""
        self._closed = True
        self._changed.set()

    def _tell(self, action: Literal["create", "update", "delete"], service: Service) -> None:
        self.sequence += 1
        stamp = int(self._clock.time())
        result = Result(action=action, service=service, timestamp=stamp, sequence=self.sequence)
        self._results.append(result)
        for listener in self._listeners:
            listener(result)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _decoded(schemas: dict[str, msgspec.Raw]) -> dict[str, dict[str, Any]]:
    """Schemas read once, without a hold on the message that they came in.

    Raises:
        errors.BadRequest: one is no JSON object.
    """
    return {name: codec.decode(raw, dict[str, Any], id="registry") for name, raw in schemas.items()}


def concerns(result: Result, name: str, domain: str) -> bool:
    """Whether a change is of a service that is watched; no name is all of the domain."""
    service = result.service
    return (not name or service.name == name) and domain_of(service) == (domain or DEFAULT_DOMAIN)


def domain_of(service: Service) -> str:
    """The namespace that a service is registered in."""
    return service.options.domain or service.metadata.get("domain") or DEFAULT_DOMAIN


def placed(service: Service, domain: str) -> Service:
    """A service in a namespace, whatever it says of that itself."""
    if domain_of(service) == domain:
        return service
    options = msgspec.structs.replace(service.options, domain=domain)
    return msgspec.structs.replace(service, options=options)


def _key(service: Service) -> _Key:
    return (domain_of(service), service.name, service.version)
