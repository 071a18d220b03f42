"""Paths to endpoints, remembered until the registry changes."""

from __future__ import annotations

from collections.abc import Iterable

from microcosmos.base import errors, names
from microcosmos.base.schema import Form, Value
from microcosmos.registry import Endpoint, Table
from microcosmos.registry.table import SUBJECT
from microcosmos.rpc.http import HANDLER
from microcosmos.rpc.server import CALLER, STREAM

AUTH = "auth"
"""The service that is told where its callers are."""

_REMEMBERED = 20_000

LONGEST_PATH = 512
"""The most characters of a path; more than any name needs, and paths are remembered."""


class NoRoute(errors.NotFound):
    """No endpoint that is called has this path; one that takes whole requests may have it."""


class Route:
    """Where a path leads.

    Attributes:
        service: whose endpoint.
        endpoint: which.
        form: how texts become its request.
        stream: who streams: ``server``, ``client``, ``both``; empty if nobody does.
        takes: whether a client may stream; one that is not known may, and says so itself if not.
        foreign: whether it is of a service that does not ask by itself who may call.
        watched: whether there is something to be done before it is called.
    """

    __slots__ = ("endpoint", "foreign", "form", "service", "stream", "takes", "watched")

    def __init__(self, service: str, endpoint: str, known: Endpoint | None) -> None:
        self.service = service
        self.endpoint = endpoint
        self.form = Form(known.request if known else Value())
        about = known.metadata if known else {}
        self.stream = about.get(CALLER, "server") if about.get(STREAM) == "true" else ""
        self.takes = known is None or self.stream in ("client", "both")
        self.foreign = SUBJECT in about
        self.watched = self.foreign or service == AUTH


class Routes(dict[str, Route]):
    """A dict from paths to routes that finds what is missing.

    The lookup of a path that was seen before is one dict access, however many services there
    are. Paths that lead nowhere are not remembered, so nobody can fill the memory with them.

    Args:
        table: who is alive.
        reserved: paths that are no service's, whatever it is called.
    """

    def __init__(self, table: Table, *, reserved: Iterable[str] = ()) -> None:
        super().__init__()
        self._table = table
        self._reserved = frozenset(reserved)
        table.on_change(lambda _: self.clear())

    def __missing__(self, path: str) -> Route:
        self._check(path)
        try:
            service, endpoint = names.from_path(path)
        except errors.BadRequest as error:
            raise NoRoute("gateway", f"no service has this path: {error.detail}") from None
        known = self._table.endpoint(service, endpoint)
        if known is None or HANDLER in known.metadata:
            self._refuse(service, endpoint)
        route = Route(service, endpoint, known)
        if known is not None:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[path] = route
        return route

    def _check(self, path: str) -> None:
        if "\ufffd" in path:
            # What Granian makes of bytes that are none.
            raise errors.BadRequest("gateway", "the path is not valid UTF-8")
        if len(path) > LONGEST_PATH:
            raise NoRoute("gateway", f"no service has a path of {len(path)} characters")
        if path in self._reserved:
            raise errors.NotFound("gateway", f"{path} is the gateway's own")

    def _refuse(self, service: str, endpoint: str) -> None:
        versions = self._table.versions(service)
        if not self._table.knows(service):
            raise NoRoute(
                service, f"service {service} not found; /registry/listServices lists them"
            )
        if not versions:
            # Known from a fixed lane only: the core's own table has not been read yet.
            return
        has = ", ".join(
            sorted(
                names.to_path(service, known.name)
                for version in versions
                for known in version.endpoints
                if HANDLER not in known.metadata
            )
        )
        raise NoRoute(service, f"service {service} has no {endpoint}; it has: {has}")
