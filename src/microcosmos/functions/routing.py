"""Which function a path leads to: one look into a dict, however many functions there are."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import msgspec

from microcosmos.base import errors
from microcosmos.base.names import default_endpoint
from microcosmos.base.patterns import Pattern, parts_of

from .interface import Live, Share
from .workers import Where

APP = "app"
"""The family in which every function has a path, ``/app/NAME/rest``: CosmoCompute's."""

_encode = msgspec.json.Encoder().encode


class Target:
    """A version that requests go to; the same object for as long as that does not change.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        owner: the id of the account that it belongs to.
        endpoint: as the function's rules call it, ``Hello.Call``.
        share: the version.
        where: the version, as places are asked for.
        spent: as of `interface.Live`.
    """

    __slots__ = ("endpoint", "name", "namespace", "owner", "routes", "share", "spent", "where")

    def __init__(self, live: Live, share: Share) -> None:
        self.namespace = live.namespace
        self.name = live.name
        self.owner = live.owner
        self.spent = live.spent
        self.endpoint = default_endpoint(live.name)
        self.share = share
        self.where = Where(live.namespace, live.name, share.number, share.key)
        self.routes = sorted(
            (Pattern(route) for route in share.routes if parts_of(route)),
            key=lambda pattern: pattern.order,
        )
        if len(self.routes) < len(share.routes):
            # One that is the family itself is all of it.
            self.routes = []

    def params(self, parts: list[str]) -> bytes | None:
        """What the placeholders of a route stand for, as JSON; None if no route fits."""
        for pattern in self.routes:
            if (fields := pattern.match(parts)) is not None:
                return _encode(fields) if fields else b""
        return None


class Found(NamedTuple):
    """Where a path leads.

    Attributes:
        target: the version that is to answer.
        path: what is below the family, without a slash before it.
        params: what the placeholders of its route stand for, as JSON; empty if there are none.
    """

    target: Target
    path: str
    params: bytes


class Routing:
    """The paths of the functions of one namespace."""

    def __init__(self) -> None:
        self._functions: dict[str, _Function] = {}
        # By the first part of a path; what is not a family, but leads to one, stands there too.
        self._families: dict[str, Family] = {}

    def __bool__(self) -> bool:
        return bool(self._functions)

    def put(self, live: Live) -> None:
        """A function is new, or has changed; one that nothing runs of is no more."""
        if not live.shares:
            self.drop(live.name)
            return
        known = self._functions.get(live.name)
        made = self._functions[live.name] = _Function(live, known)
        self._family(live.name).put(made)
        self._families.setdefault(APP, _Apps(self._functions))
        self._families.setdefault("", _Slashes(self))

    def drop(self, name: str) -> None:
        """A function is no more."""
        if self._functions.pop(name, None) is None:
            return
        family = self._family(name)
        family.drop(name)
        if not family:
            del self._families[family.name]

    def family(self, path: str) -> Family | None:
        """The family that a path is in; a function of it may own the path, or none."""
        end = path.find("/", 1)
        return self._families.get(path[1:] if end < 0 else path[1:end])

    def find(self, path: str) -> Found | None:
        """The function that owns a path; None if none does.

        Args:
            path: decoded, with its first slash.

        Raises:
            errors.NotFound: a function owns the path, and has no such route.
            errors.BadRequest: it leads to a function, and has in it what no path should have.
        """
        family = self.family(path)
        return None if family is None else family.find(path)

    def targets(self, name: str) -> Iterable[Target]:
        """The versions of a function that requests go to."""
        known = self._functions.get(name)
        return () if known is None else known.targets

    def named(self, name: str) -> Target | None:
        """A version of a function, as its shares have it; None if there is no such function."""
        known = self._functions.get(name)
        return None if known is None else known.any()

    def _family(self, name: str) -> Family:
        first = name.partition(".")[0]
        return self._families.setdefault(first, Family(first))


class _Function:
    """A function, and the versions that share its requests.

    Attributes:
        name: of it.
        targets: the versions.
        only: what answers whatever the path; None if that has to be looked at.
    """

    __slots__ = ("_routed", "_sums", "name", "only", "targets")

    def __init__(self, live: Live, known: _Function | None) -> None:
        self.name = live.name
        old: list[Target] = known.targets if known is not None else []
        self.targets: list[Target] = [
            next((one for one in old if one.share == share and one.owner == live.owner), None)
            or Target(live, share)
            for share in live.shares
        ]
        for target in self.targets:
            target.spent = live.spent
        self._sums = list(accumulate(share.weight for share in live.shares))
        self._routed = any(target.routes for target in self.targets)
        alone = len(self.targets) == 1 and not self._routed
        self.only = self.targets[0] if alone else None

    def find(self, rest: str) -> Found | None:
        """What answers a path below this function; None if no route of it fits."""
        if self.only is not None:
            return Found(self.only, rest, b"")
        if not self._routed:
            return Found(self.any(), rest, b"")
        parts = parts_of(rest)
        fitting: list[Found] = []
        for target in self.targets:
            params = target.params(parts) if target.routes else b""
            if params is not None:
                fitting.append(Found(target, rest, params))
        return _chosen(fitting) if fitting else None

    def any(self) -> Target:
        """One of the versions, by their weights."""
        if len(self.targets) == 1:
            return self.targets[0]
        at = random.random() * self._sums[-1]
        return self.targets[min(bisect(self._sums, at), len(self.targets) - 1)]


def _chosen(fitting: list[Found]) -> Found:
    """One of those whose routes fit, by their weights."""
    if len(fitting) == 1:
        return fitting[0]
    weights = [found.target.share.weight for found in fitting]
    return random.choices(fitting, weights if any(weights) else None)[0]


class Family:
    """The functions whose names begin alike: ``shop`` and ``shop.cart`` own parts of /shop."""

    # Slots, and as few steps as may be to what answers: among many functions each is a miss of
    # the processor's cache.
    __slots__ = ("_deepest", "_dotted", "_only", "_plain", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._plain: _Function | None = None
        # By their paths, and how many parts those may have; most families have none.
        self._dotted: dict[str, _Function] = {}
        self._deepest = 0
        self._only: Target | None = None

    def __bool__(self) -> bool:
        return self._plain is not None or bool(self._dotted)

    def put(self, function: _Function) -> None:
        if function.name == self.name:
            self._plain = function
        else:
            self._dotted[function.name.replace(".", "/")] = function
        self._changed()

    def drop(self, name: str) -> None:
        if name == self.name:
            self._plain = None
        else:
            self._dotted.pop(name.replace(".", "/"), None)
        self._changed()

    def _changed(self) -> None:
        self._deepest = max((path.count("/") + 1 for path in self._dotted), default=0)
        plain = self._plain
        self._only = plain.only if plain is not None and not self._dotted else None

    def find(self, path: str) -> Found | None:
        """What answers a path of this family; see `Routing.find`."""
        if not path.isascii() or "/." in path or "\0" in path:
            _check(path)
        if self._only is not None:
            _, _, rest = path[1:].partition("/")
            return Found(self._only, rest.lstrip("/"), b"")
        if self._dotted:
            return self._longest(path)
        rest = _below(path, 1)
        # A family that has no dotted names has a plain one, or it would not be there.
        assert self._plain is not None
        if (found := self._plain.find(rest)) is None:
            raise _no_route(self._plain, rest)
        return found

    def _longest(self, path: str) -> Found | None:
        """What the longest name answers that has a route for the path."""
        parts = parts_of(path)
        missed: errors.NotFound | None = None
        for count in range(min(len(parts), self._deepest), 0, -1):
            known = self._dotted.get("/".join(parts[:count])) if count > 1 else self._plain
            if known is None:
                continue
            rest = _below(path, count)
            if (found := known.find(rest)) is not None:
                return found
            missed = missed or _no_route(known, rest)
        if missed is not None:
            raise missed
        return None


class _Apps(Family):
    """Every function by its name: ``/app/shop.cart/rest``; one in small letters by any."""

    __slots__ = ("_functions",)

    def __init__(self, functions: dict[str, _Function]) -> None:
        super().__init__(APP)
        self._functions = functions

    def find(self, path: str) -> Found | None:
        if not path.isascii() or "/." in path or "\0" in path:
            _check(path)
        name, _, rest = path[len(APP) + 1 :].lstrip("/").partition("/")
        known = self._functions.get(name) or self._functions.get(name.lower())
        if known is None:
            detail = f"there is no function {name[:100]!r}; `micro functions list` lists them"
            raise errors.NotFound("functions", detail)
        rest = rest.lstrip("/")
        if (found := known.find(rest)) is None:
            raise _no_route(known, rest)
        return found


class _Slashes(Family):
    """Doubled slashes before a path make none, as for services."""

    __slots__ = ("_routing",)

    def __init__(self, routing: Routing) -> None:
        super().__init__("")
        self._routing = routing

    def find(self, path: str) -> Found | None:
        plain = path.lstrip("/")
        return self._routing.find(f"/{plain}") if plain else None


def _below(path: str, count: int) -> str:
    """What is left of a path after so many parts, without a slash before it."""
    for _ in range(count):
        path = path.lstrip("/")
        end = path.find("/")
        path = "" if end < 0 else path[end:]
    return path.lstrip("/")


def _check(path: str) -> None:
    if "\ufffd" in path:
        # What Granian makes of bytes that are none.
        raise errors.BadRequest("functions", "the path is not valid UTF-8")
    if "\0" in path:
        raise errors.BadRequest("functions", "the path has a NUL in it")
    if {".", ".."}.intersection(path.split("/")):
        # What they mean would be up to each library that reads the URL.
        raise errors.BadRequest("functions", "the path has . or .. in it; say what is meant")


def _no_route(function: _Function, rest: str) -> errors.NotFound:
    routes = ", ".join(sorted({route for one in function.targets for route in one.share.routes}))
    detail = f"function {function.name} has no route /{rest[:200]}; it has: {routes}"
    return errors.NotFound(function.name, detail)
