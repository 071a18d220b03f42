"""Conflicts: whose a name is, among functions and among services, and whose a path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.names import announced
from microcosmos.base.patterns import parts_of
from microcosmos.registry.interface import Service
from microcosmos.runtime.deployment import Deployment
from microcosmos.store import Delete, Op, Store, Write

from .drafts import family
from .versions import Which

Others = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""The services that are in the way of a function of a namespace and a name: by their names, whose
they are, for people."""


async def no_others(namespace: str, name: str) -> Mapping[str, str]:
    """Nobody is in the way, as where there are no services."""
    return {}


class Deployments(Protocol):
    """What the runtime is asked."""

    async def read(self, name: str = "", namespace: str = "") -> Sequence[Deployment]:
        """All deployments of a namespace."""


class Registered(Protocol):
    """What the registry is asked."""

    def known(self, domain: str = "") -> Sequence[Service]:
        """All services of a namespace."""


class Services:
    """The services of all namespaces, as they are in the way of functions.

    Args:
        runtime: knows those that are deployed.
        registry: knows those that run.
    """

    def __init__(self, runtime: Deployments, registry: Registered) -> None:
        self._runtime = runtime
        self._registry = registry

    async def others(self, namespace: str, name: str) -> dict[str, str]:
        """See `Others`: those whose paths begin as the function's, or with its name on NATS."""
        found = {
            service.name: f"service {service.name}, which runs"
            for service in self._registry.known(namespace)
            if service.nodes and meets(service.name, name)
        }
        for one in await self._runtime.read(namespace=namespace):
            if meets(one.name, name):
                found[one.name] = f"service {one.name} of {one.owner}"
        return found


def meets(service: str, function: str) -> bool:
    """Whether a service and a function cannot both be there."""
    return family(service) == family(function) or announced(service) == announced(function)


class _Family(msgspec.Struct, frozen=True):
    """A first part of paths that belongs to an account."""

    owner: str


class Seen(msgspec.Struct, frozen=True):
    """A family as it was when it was looked at.

    Attributes:
        owner: whose it is; empty is nobody's.
        version: of its record; 0 is that there is none.
    """

    owner: str = ""
    version: int = 0


class Claims:
    """Which families belong to whom, and which functions have which names on NATS.

    Args:
        families: a table.
        announced: a table.
    """

    def __init__(self, families: Store, announced: Store) -> None:
        self._families = families
        self._announced = announced

    async def taken(self, namespace: str, name: str) -> str:
        """Which functions are in the way of a service, for people; empty if none are."""
        seen = await self.family(namespace, name)
        if seen.version:
            return f"/{family(name)} belongs to functions of {seen.owner}"
        function = await self._on_nats(namespace, name)
        return f"function {function} has that name on NATS" if function else ""

    async def family(self, namespace: str, name: str) -> Seen:
        """The family of a name."""
        try:
            record = await self._families.read(_key(namespace, name))
        except errors.NotFound:
            return Seen()
        return Seen(codec.decode(record.value, _Family).owner, record.version)

    async def check_announced(self, namespace: str, name: str) -> None:
        """Refuse a new function that has the name of another one on NATS.

        Raises:
            errors.Conflict: it has; the detail says whose.
        """
        other = await self._on_nats(namespace, name)
        if other and other != name:
            detail = f"{name} and function {other} have one name on NATS; choose another name"
            raise errors.Conflict("functions", detail)

    def take(self, which: Which, owner: str, seen: Seen) -> list[Op]:
        """What makes a new function its family's, unless that has changed."""
        family = Write(
            _key(which.namespace, which.name),
            codec.encode(_Family(seen.owner or owner)),
            version=seen.version,
            table=self._families.scope[1],
        )
        name = Write(
            _announced(which.namespace, which.name),
            which.name.encode(),
            version=0,
            table=self._announced.scope[1],
        )
        return [family, name]

    def touch(self, which: Which, seen: Seen) -> Op:
        """What fails if the family has changed, and makes others fail that saw it before."""
        return Write(
            _key(which.namespace, which.name),
            codec.encode(_Family(seen.owner)),
            version=seen.version,
            table=self._families.scope[1],
        )

    def leave(self, which: Which, seen: Seen, *, last: bool) -> list[Op]:
        """What lets go of a function's names; of its family, if it was the last one there."""
        key = _key(which.namespace, which.name)
        table = self._families.scope[1]
        family = Delete(key, version=seen.version, table=table) if last else self.touch(which, seen)
        name = _announced(which.namespace, which.name)
        return [family, Delete(name, table=self._announced.scope[1])]

    async def _on_nats(self, namespace: str, name: str) -> str:
        try:
            record = await self._announced.read(_announced(namespace, name))
        except errors.NotFound:
            return ""
        return record.value.decode()


def ancestors(name: str) -> Iterator[str]:
    """The functions that a function's paths may be below: ``shop`` of ``shop.cart``."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def overlap(
    name: str, routes: Iterable[str], other: str, others: Sequence[str]
) -> tuple[str, str] | None:
    """Routes of two functions of one family that a path may both fit, if there are any."""
    for route in routes:
        for one in others:
            if _meet(_full(name, route), _full(other, one)):
                return route, one
    return None


def _full(name: str, route: str) -> list[str]:
    return [*name.split("."), *parts_of(route)]


def _meet(ours: list[str], theirs: list[str]) -> bool:
    """Whether there is a path that two patterns fit, both given by their parts."""
    for one, two in zip(ours, theirs, strict=False):
        if one.endswith("*}") or two.endswith("*}"):
            return True
        if one != two and "{" not in one and "{" not in two:
            return False
    if len(ours) == len(theirs):
        return True
    longer, end = (ours, len(theirs)) if len(ours) > len(theirs) else (theirs, len(ours))
    # What is left may be nothing for a field with a star only.
    return len(longer) == end + 1 and longer[end].endswith("*}")


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{family(name)}"


def _announced(namespace: str, name: str) -> str:
    return f"{namespace}/{announced(name)}"
