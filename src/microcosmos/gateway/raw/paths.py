"""Which raw HTTP endpoint a path and a method lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from microcosmos.base import errors
from microcosmos.base.patterns import Pattern, parts_of
from microcosmos.registry import Endpoint, Table
from microcosmos.rpc.http import HANDLER, METHODS, PATH


class Raw(NamedTuple):
    """A raw endpoint and what it answers; no methods are all of them."""

    service: str
    endpoint: str
    methods: frozenset[str]


class RawPaths:
    """The paths of raw endpoints; a service that has none costs nothing but a look at a dict.

    Args:
        table: who is alive.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._known: dict[str, _OfService | None] = {}
        table.on_change(self._changed)

    def find(self, path: str, method: str) -> Raw | None:
        """The endpoint with this very path, else the application mounted nearest above it.

        Raises:
            errors.MethodNotAllowed: endpoints have the path, but none answers the method.
        """
        parts = parts_of(path)
        return self._longest(parts, lambda known: known.exact(parts, method)) or self._longest(
            parts, lambda known: known.mounted(parts)
        )

    def _changed(self, service: str) -> None:
        self._known.pop(service, None)

    def _longest(self, parts: list[str], find: Callable[[_OfService], Raw | None]) -> Raw | None:
        for count in range(len(parts), 0, -1):
            known = self._of(".".join(parts[:count]))
            if known is not None and (found := find(known)) is not None:
                return found
        return None

    def _of(self, service: str) -> _OfService | None:
        if service not in self._known:
            # Only services are remembered, so that nobody can fill the memory with names.
            if not self._table.knows(service):
                return None
            versions = self._table.versions(service)
            endpoints = [one for version in versions[::-1] for one in version.endpoints]
            made = _OfService(service, endpoints)
            self._known[service] = made or None
        return self._known[service]


class _OfService:
    """The raw endpoints of one service, those with the plainest paths first."""

    def __init__(self, service: str, endpoints: Iterable[Endpoint]) -> None:
        self._exact: list[tuple[Pattern, Raw]] = []
        self._mounts: list[tuple[list[str], Raw]] = []
        for endpoint in endpoints:
            about = endpoint.metadata
            kind, path = about.get(HANDLER), about.get(PATH, "")
            methods = frozenset(filter(None, about.get(METHODS, "").split(",")))
            raw = Raw(service, endpoint.name, methods)
            if kind == "mount":
                self._mounts.append((parts_of(path), raw))
            elif kind == "http" and (pattern := _pattern(path)) is not None:
                self._exact.append((pattern, raw))
        self._exact.sort(key=lambda pair: pair[0].order)
        self._mounts.sort(key=lambda pair: -len(pair[0]))

    def __bool__(self) -> bool:
        return bool(self._exact or self._mounts)

    def exact(self, parts: list[str], method: str) -> Raw | None:
        allowed: set[str] = set()
        for pattern, raw in self._exact:
            if pattern.match(parts) is not None:
                if not raw.methods or method in raw.methods:
                    return raw
                allowed |= raw.methods
        if allowed:
            answers = ", ".join(sorted(allowed))
            raise NotAllowed(self._exact[0][1].service, f"{method} has no meaning here", answers)
        return None

    def mounted(self, parts: list[str]) -> Raw | None:
        return next((raw for root, raw in self._mounts if parts[: len(root)] == root), None)


class NotAllowed(errors.MethodNotAllowed):
    """A path that is there, asked by a method that it does not answer.

    Attributes:
        allowed: the methods that it does, as the header ``Allow`` has them.
    """

    def __init__(self, id: str, detail: str, allowed: str) -> None:
        super().__init__(id, f"{detail}; it answers {allowed}")
        self.allowed = allowed


def _pattern(path: str) -> Pattern | None:
    """A path as services write it; None of one that another language has got wrong."""
    try:
        return Pattern(path.replace(":path}", "*}").replace(":int}", "}"))
    except ValueError:
        return None
