"""The registry as every process remembers it: what calls and routes are looked up in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from microcosmos.base import names

from .interface import HOST, LANE, Endpoint, Result, Service, this_host

T = TypeVar("T")

SUBJECT = "micro.subject"
"""Metadata of a foreign endpoint: the NATS subject it listens on."""


class Table:
    """Services by name, kept current by whoever owns it; `rpc.Resolver` for clients.

    Args:
        fixed: sockets that are known without a registry, by service: the core's.
        host: whose sockets can be opened; this one unless said.
    """

    def __init__(self, fixed: Mapping[str, str] | None = None, *, host: str = "") -> None:
        self._host = host or this_host()
        self._services: dict[str, dict[str, Service]] = {}
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        self._lanes: dict[str, list[str]] = {}
        self._here: set[str] = set()
        self._subjects: dict[str, dict[str, str]] = {}
        self._fixed = {name: [path] for name, path in (fixed or {}).items()}
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Tell of every service that changes, by name."""
        self._listeners.append(listener)

    def apply(self, result: Result) -> None:
        """Take over one change."""
        service = result.service
        versions = self._services.setdefault(service.name, {})
        if result.action == "delete":
            versions.pop(service.version, None)
        else:
            versions[service.version] = service
        if not versions:
            del self._services[service.name]
        self._refresh(service.name)

    def replace(self, services: Iterable[Service]) -> None:
        """Take over the whole list."""
        before = set(self._services)
        self._services = {}
        for service in services:
            self._services.setdefault(service.name, {})[service.version] = service
        for name in before | set(self._services):
            self._refresh(name)

    def _refresh(self, name: str) -> None:
        versions = self._services.get(name, {})
        nodes = [node for service in versions.values() for node in service.nodes]
        lanes = [
            node.metadata[LANE]
            for node in nodes
            if LANE in node.metadata and node.metadata.get(HOST) == self._host
        ]
        _set(self._lanes, name, lanes)
        if nodes and len(lanes) == len(nodes):
            self._here.add(name)
        elif nodes or not versions:
            # Else it is expected back, and will be where it was.
            self._here.discard(name)
        known = [one for version in [*versions.values()][::-1] for one in version.endpoints]
        subjects = {one.name: one.metadata[SUBJECT] for one in known if SUBJECT in one.metadata}
        _set(self._endpoints, name, {one.name: one for one in known})
        _set(self._subjects, name, subjects)
        for listener in self._listeners:
            listener(name)

    def lanes(self, service: str) -> list[str]:
        """The sockets of the living replicas on this host."""
        return self._lanes.get(service) or self._fixed.get(service) or []

    def elsewhere(self, service: str) -> bool:
        """Whether replicas may be alive that no socket of this host leads to."""
        return service not in self._here

    def lost(self, service: str) -> bool:
        """Whether the service is known, and every replica of it has died."""
        versions = self._services.get(service)
        return versions is not None and not any(one.nodes for one in versions.values())

    def knows(self, service: str) -> bool:
        """Whether the service is registered, though perhaps none of it is alive just now."""
        return service in self._services or service in self._fixed

    def services(self) -> list[Service]:
        """Every version of every living service, sorted by name."""
        known = [v for name in sorted(self._services) for v in self._services[name].values()]
        return [service for service in known if service.nodes]

    def versions(self, name: str) -> list[Service]:
        """The living versions of a service."""
        return list(self._services.get(name, {}).values())

    def endpoint(self, service: str, name: str) -> Endpoint | None:
        """An endpoint of a service, of whichever version has it."""
        known = self._endpoints.get(service)
        return known.get(name) if known else None

    def retries(self, service: str, endpoint: str) -> bool:
        """Whether an endpoint may be called again; not, where its author said so."""
        known = self.endpoint(service, endpoint)
        return known is None or known.metadata.get("retry") != "false"

    def subject(self, service: str, endpoint: str) -> str:
        """The NATS subject of an endpoint."""
        if foreign := self._subjects.get(service):
            return foreign.get(endpoint) or names.subject(service, endpoint)
        return names.subject(service, endpoint)


def _set(among: dict[str, T], name: str, value: T) -> None:
    """Keep what is not empty."""
    if value:
        among[name] = value
    else:
        among.pop(name, None)
