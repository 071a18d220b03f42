"""Where requests lead: redirects, routes to endpoints, domains of services."""

from __future__ import annotations

import heapq
import operator
import re
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote_plus, unquote_plus

from microcosmos.base import errors, names
from microcosmos.base.patterns import Pattern, fill, parts_of
from microcosmos.registry import Table

from . import settings

T = TypeVar("T", settings.Route, settings.Redirect)

_ORDER = operator.itemgetter(0)
_PORT = re.compile(r":\d*$")


def host_of(header: str) -> str:
    """The name of a ``Host`` header: lower case, without port and closing dot."""
    if len(header) > 260:
        return ""
    return _PORT.sub("", header).rstrip(".").lower()


def of_host(wanted: str, host: str) -> bool:
    """Whether a section for a host is for this one; a section without one is for all."""
    if wanted.startswith("*."):
        return host.endswith(wanted[1:]) and len(host) > len(wanted) - 1
    return not wanted or wanted == host


class Moved(NamedTuple):
    """Where a path has gone to."""

    status: int
    location: str


class Way(NamedTuple):
    """Where a request leads: the path and the query string of an endpoint."""

    path: str
    query: str


class _Index(Generic[T]):
    """Entries by the first part of their paths, so that the others are not looked at."""

    def __init__(self, entries: list[T]) -> None:
        self._by_first: dict[str, list[tuple[int, Pattern, T]]] = {}
        for order, entry in enumerate(entries):
            first = (parts_of(entry.path) or [""])[0]
            key = "{" if first.startswith("{") else first
            self._by_first.setdefault(key, []).append((order, Pattern(entry.path), entry))

    def find(self, host: str, parts: list[str]) -> Iterator[tuple[T, dict[str, str]]]:
        """Those that a path matches, in the order of the file, with the path's fields."""
        named = self._by_first.get(parts[0] if parts else "", [])
        for _, pattern, entry in heapq.merge(named, self._by_first.get("{", []), key=_ORDER):
            if of_host(entry.host, host) and (fields := pattern.match(parts)) is not None:
                yield entry, fields


class Routing:
    """Follows redirects, routes and hosts.

    Args:
        given: the settings.
        table: who is alive.
    """

    def __init__(self, given: settings.Settings, table: Table) -> None:
        self._redirects = _Index(given.redirects)
        self._routes = _Index(given.routes)
        self._hosts = sorted(
            given.hosts, key=lambda one: (one.host.startswith("*"), -len(one.host))
        )
        self._table = table

    def moved(self, host: str, path: str, query: str) -> Moved | None:
        """Where the path has gone to, if it has."""
        for entry, fields in self._redirects.find(host, parts_of(path)):
            location = fill(entry.to, fields)
            if query:
                location += ("&" if "?" in location else "?") + query
            return Moved(entry.status, location)
        return None

    def routed(self, host: str, method: str, path: str, query: str) -> Way | None:
        """The endpoint that a route gives this path to."""
        method = "GET" if method == "HEAD" else method
        for entry, fields in self._routes.find(host, parts_of(path)):
            if entry.method in ("", method):
                word = entry.endpoint or "call"
                endpoint = names.endpoint_name(entry.service, word)
                return Way(names.to_path(entry.service, endpoint), _with_fields(query, fields))
        return None

    def below(self, host: str, path: str) -> str | None:
        """The path below the service whose domain this is; None if it is none's.

        Raises:
            errors.NotFound: it would be another service's.
        """
        for entry in self._hosts:
            if of_host(entry.host, host):
                return self._of_service(entry.service, path)
        return None

    def _of_service(self, service: str, path: str) -> str:
        words = parts_of(path)
        if len(words) <= 2:
            try:
                word = ".".join(words) or "call"
                return names.to_path(
                    service, names.check_endpoint(names.endpoint_name(service, word))
                )
            except errors.BadRequest as error:
                raise errors.NotFound(
                    "gateway", f"no endpoint has this path: {error.detail}"
                ) from None
        whole = "/" + service.replace(".", "/") + "/" + "/".join(words)
        try:
            other, _ = names.from_path(whole)
        except errors.Error:
            return whole
        if other != service and self._table.knows(other):
            raise errors.NotFound("gateway", f"service {service} has no such path")
        return whole


def _with_fields(query: str, fields: dict[str, str]) -> str:
    """A query string with fields of the path, which win over its own."""
    if not fields:
        return query
    kept = [part for part in query.split("&") if part and not _names(part, fields)]
    return "&".join([*kept, *(f"{name}={quote_plus(value)}" for name, value in fields.items())])


def _names(part: str, fields: dict[str, str]) -> bool:
    """Whether a part of a query string is for one of these fields, however it is written."""
    name = (
        unquote_plus(part.partition("=")[0]).removesuffix("[]").replace("[", ".").replace("]", "")
    )
    return any(name == field or name.startswith(f"{field}.") for field in fields)
