"""Paths to endpoints, remembered until the registry changes."""

from __future__ import annotations

from collections.abc import Iterable

from microcosmos.base import errors, names
from microcosmos.base.schema import Form, Value
from microcosmos.registry import Table

_REMEMBERED = 20_000

LONGEST_PATH = 512
"""The most characters of a path; more than any name needs, and paths are remembered."""


class Route:
    """Where a path leads."""

    __slots__ = ("endpoint", "form", "service")

    def __init__(self, service: str, endpoint: str, shape: Value) -> None:
        self.service = service
        self.endpoint = endpoint
        self.form = Form(shape)


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
            raise errors.NotFound("gateway", f"no service has this path: {error.detail}") from None
        known = self._table.endpoint(service, endpoint)
        if known is None:
            self._refuse(service, endpoint)
        shape = known.request if known else Value()
        route = Route(service, endpoint, shape)
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
            raise errors.NotFound("gateway", f"no service has a path of {len(path)} characters")
        if path in self._reserved:
            raise errors.NotFound("gateway", f"{path} is the gateway's own")

    def _refuse(self, service: str, endpoint: str) -> None:
        versions = self._table.versions(service)
        if not self._table.knows(service):
            raise errors.NotFound(
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
            )
        )
        raise errors.NotFound(service, f"service {service} has no {endpoint}; it has: {has}")
