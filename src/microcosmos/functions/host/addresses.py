"""Which addresses are of the public internet."""

from __future__ import annotations

import ipaddress

_NOT_PUBLIC = [
    ipaddress.IPv4Network(one)
    for one in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
]

# All else has a meaning of its own: this host and its links, private networks, groups, and the
# forms in which an IPv4 address hides (mapped, NAT64).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(one)
    # Protocols (Teredo among them), examples, 6to4, examples.
    for one in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one of the public internet.

    Loopback, private, link-local, shared (CGNAT), multicast, reserved and unspecified ones are
    not, nor is any IPv6 address that carries one of IPv4.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _NOT_PUBLIC)
    if found.scope_id is not None or found not in _GLOBAL_UNICAST:
        return False
    return not any(found in network for network in _NOT_PUBLIC_6)
