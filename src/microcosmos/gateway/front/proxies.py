"""Which address a client really has: the word of trusted proxies, and nobody else's."""

from __future__ import annotations

from typing import NamedTuple

from microcosmos.gateway.request import Pairs, without

from . import settings
from .addresses import Networks, canonical, network

HOPS = 32
"""The most proxies in a row that are looked through for the client's address."""

_FORWARDED_FOR = "x-forwarded-for"
_FORWARDED = "forwarded"
_PROTO = "x-forwarded-proto"
_SCHEMES = frozenset(("http", "https"))
_REMOTE = "remote"

# What proxies write and services believe; a client's own word for it is removed.
_CLAIMS = frozenset(
    (
        *(_FORWARDED_FOR, _FORWARDED, _PROTO, _REMOTE),
        *("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-real-ip"),
        *("true-client-ip", "cf-connecting-ip", "x-client-ip", "x-cluster-client-ip"),
    )
)


class Client(NamedTuple):
    """Who sent a request.

    Attributes:
        address: where it came from.
        scheme: what it was sent by, ``http`` or ``https``.
        pairs: its headers, with what is believed in place of what was claimed.
    """

    address: str
    scheme: str
    pairs: Pairs


class Proxies:
    """Finds the client behind trusted proxies.

    Args:
        given: the section ``[proxies]``; None trusts nobody.
    """

    def __init__(self, given: settings.Proxies | None) -> None:
        given = given or settings.Proxies()
        self._trusted = Networks(network(text) for text in given.trusted)
        self._header = given.header.lower()

    def client(self, peer: str, scheme: str, pairs: Pairs) -> Client:
        """The client of a request.

        The hops are followed from the nearest on, as long as each is trusted: the first that is
        not is the client, whatever it says itself of those before it.

        Args:
            peer: the other end of the connection, with its port.
            scheme: as the connection says.
            pairs: the headers.
        """
        address = canonical(peer)
        if address in self._trusted:
            hops = self._hops(pairs)
            for said, by in hops[: -HOPS - 1 : -1]:
                if not said:
                    break
                address, scheme = said, by or scheme
                if said not in self._trusted:
                    break
            if self._header == _FORWARDED_FOR:
                scheme = _last_scheme(pairs) or scheme
            pairs = without(pairs, (_FORWARDED_FOR, _FORWARDED, _PROTO, _REMOTE))
        else:
            pairs = [pair for pair in pairs if pair[0] not in _CLAIMS]
        believed = [(_FORWARDED_FOR, address), (_PROTO, scheme), (_REMOTE, address)]
        return Client(address, scheme, [*pairs, *believed])

    def _hops(self, pairs: Pairs) -> list[tuple[str, str]]:
        """The addresses and schemes that the one believed header tells, the nearest last."""
        told = ",".join(value for name, value in pairs if name == self._header)
        nearest = told.rsplit(",", HOPS)[-HOPS:]
        if self._header == _FORWARDED_FOR:
            return [(canonical(hop), "") for hop in nearest]
        return [_forwarded(hop) for hop in nearest]


def _last_scheme(pairs: Pairs) -> str:
    """What the nearest proxy was spoken to by."""
    told = [value for name, value in pairs if name == _PROTO]
    last = told[-1].rpartition(",")[2].strip().lower() if told else ""
    return last if last in _SCHEMES else ""


def _forwarded(element: str) -> tuple[str, str]:
    """``for`` and ``proto`` of an element of ``Forwarded``."""
    found = {}
    for part in element.split(";"):
        name, _, value = part.partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    scheme = found.get("proto", "").lower()
    return canonical(found.get("for", "")), scheme if scheme in _SCHEMES else ""
