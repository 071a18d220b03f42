"""Which hosts a function may fetch from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .addresses import canonical

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a URL leads: scheme, host in small letters, port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"


class Hosts:
    """The hosts that a function was allowed at its deploy, `interface.Draft.hosts`.

    ``example.org`` and ``*.example.org`` (its subdomains) are meant with any port,
    ``example.org:8443`` with that one.

    Args:
        named: as they were given; none are all of the public internet.
    """

    def __init__(self, named: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._exact: set[tuple[str, int]] = set()
        self._below: set[tuple[str, int]] = set()
        for one in named:
            host, port = split(one.lower())
            if host.startswith("*."):
                self._below.add((host[1:], port))
            elif port:
                self._exact.add((host, port))
            else:
                self._names.add(host)

    def allow(self, origin: Origin) -> bool:
        """Whether an origin may be reached, if its address is public."""
        if not (self._names or self._exact or self._below):
            return True
        host, port = origin.host.rstrip("."), origin.port
        if host in self._names or (host, port) in self._exact:
            return True
        return any(host.endswith(below) and of in (0, port) for below, of in self._below)

    def name(self, origin: Origin) -> bool:
        """Whether an origin was named itself, with its port, so that any address will do.

        A name without a port is meant with that of the scheme here: who allows a host does not
        allow what else listens there.
        """
        host, port = origin.host, origin.port
        if (host, port) in self._exact:
            return True
        return host in self._names and port == _DEFAULT_PORTS.get(origin.scheme)


@lru_cache(maxsize=1024)
def allowed(named: tuple[str, ...]) -> Hosts:
    """The `Hosts` of a function."""
    return Hosts(named)


def split(text: str) -> tuple[str, int]:
    """A host and its port, 0 if there is none; ``[::1]:80`` has both."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    # What is no address is left as it is: nothing leads there.
    with contextlib.suppress(ValueError):
        host = canonical(host.rstrip("."))
    return host, int(port) if port.isdecimal() else 0
