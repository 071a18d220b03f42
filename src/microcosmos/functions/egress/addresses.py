"""Which addresses are of the public internet, and how one is written."""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_KINDS = [
    (ipaddress.ip_network(network), kind)
    for kind, networks in {
        "unspecified": ("0.0.0.0/8", "::/128"),
        "loopback": ("127.0.0.0/8", "::1/128"),
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        "shared": ("100.64.0.0/10",),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "site-local": ("fec0::/10",),
        "protocol": ("192.0.0.0/24", "2001::/23"),
        "documentation": (
            *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
            *("2001:db8::/32", "3fff::/20"),
        ),
        "benchmarking": ("198.18.0.0/15",),
        "6to4": ("192.88.99.0/24", "2002::/16"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "reserved": ("240.0.0.0/4",),
        "IPv4-mapped": ("::ffff:0:0/96",),
        "NAT64": ("64:ff9b::/96", "64:ff9b:1::/48"),
    }.items()
    for network in networks
]

# Where clouds tell a machine its own passwords: of networks that are public, private or shared.
_METADATA = frozenset(
    ipaddress.ip_address(one)
    for one in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)

# All that is not of it has a meaning of its own.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

# Of these a function may be allowed one by name: they are somebody's own machines.
_NAMEABLE = frozenset(("", "loopback", "private", "shared"))

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def kind_of(address: str) -> str:
    """What an address is, as a resolver gives it: empty if it is of the public internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if found in _METADATA:
        return "metadata"
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        return "link-local"
    for network, kind in _KINDS:
        if found in network:
            return kind
    if found.version == 6 and found not in _GLOBAL_UNICAST:
        return "reserved"
    return ""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet.

    Loopback, private, link-local, shared (CGNAT), multicast, reserved and unspecified ones are
    not, nor is any IPv6 address that carries one of IPv4.
    """
    return not kind_of(address)


def is_nameable(address: str) -> bool:
    """Whether an address may be reached by who was allowed it by name.

    Those of the machine itself and of its networks may; those of links, groups and examples, and
    those at which clouds tell machines their passwords, may never.
    """
    return kind_of(address) in _NAMEABLE


def canonical(host: str) -> str:
    """The one spelling of a host: an IPv4 address may be octal, hexadecimal, short or a number.

    Raises:
        ValueError: it ends in a number and is no address.
    """
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    parts = host.removesuffix(".").split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return host
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{host} is no IPv4 address")
    *first, last = map(_number, parts)
    if any(one > 255 for one in first) or last >= 256 ** (5 - len(parts)):
        raise ValueError(f"{host} is no IPv4 address")
    value = last + sum(one << (8 * (3 - at)) for at, one in enumerate(first))
    return str(ipaddress.IPv4Address(value))


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)
