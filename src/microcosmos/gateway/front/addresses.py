"""IP addresses and networks, asked for every request."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SIXTY_FOUR = (1 << 64) - 1
_LONGEST = 64


def network(text: str) -> Network:
    """A network as it is written, ``10.0.0.0/8``, or one address.

    Raises:
        ValueError: it is neither; the text says so.
    """
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no address and no network like 10.0.0.0/8") from None


def looks_like_network(text: str) -> bool:
    """Whether a text begins with an address, so that what follows must be right too."""
    return bool(canonical(text.partition("/")[0]))


def canonical(text: str) -> str:
    """The one form of an address; empty for what is none.

    A port and brackets may be there, as in Granian's ``[::1]:4711`` and in ``Forwarded``. An IPv4
    address in an IPv6 one is the IPv4 address: it is the same client.
    """
    # Clients send these, and what is remembered has a size.
    return _canonical(text) if len(text) <= _LONGEST else ""


@functools.lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return ""
        address = address.ipv4_mapped or address
    return str(address)


@functools.lru_cache(maxsize=4096)
def counted(address: str) -> str:
    """What a limit counts as one client: of IPv6 the /64 that a network gives a customer."""
    if ":" not in address:
        return address
    whole = int(ipaddress.IPv6Address(address))
    return str(ipaddress.IPv6Address(whole & ~_SIXTY_FOUR)) + "/64"


class Networks:
    """A set of networks. To ask it takes one look-up for each length of prefix that it has."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for one in networks:
            bits = one.max_prefixlen - one.prefixlen
            begins = int(one.network_address) >> bits
            self._by_length.setdefault((one.version, bits), set()).add(begins)
        self._asked = functools.lru_cache(maxsize=4096)(self._has)

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def __contains__(self, address: str) -> bool:
        return self._asked(address) if self._by_length else False

    def _has(self, address: str) -> bool:
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        number, version = int(known), known.version
        return any(
            number >> bits in begins
            for (of, bits), begins in self._by_length.items()
            if of == version
        )
