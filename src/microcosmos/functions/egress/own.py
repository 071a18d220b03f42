"""Which addresses are the platform's own: its engine, its proxy, its store."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Own:
    """Doors of the platform that no function is let through, whatever it was allowed.

    Args:
        doors: each ``host:port``; a host that stands for all addresses is all of this machine's.
        resolve: looks up hosts that are names.
    """

    def __init__(self, doors: Iterable[str], resolve: Resolve) -> None:
        self._doors: dict[int, set[str]] = {}
        self._resolve = resolve
        for door in doors:
            host, _, port = door.strip().rpartition(":")
            if port.isdecimal():
                self._doors.setdefault(int(port), set()).add(host.strip("[]").lower())

    async def holds(self, address: str, port: int) -> bool:
        """Whether what listens at an address is the platform's own."""
        hosts = self._doors.get(port)
        if not hosts:
            return False
        # A door of this machine is reached by each of its addresses, or may be.
        here = is_here(address)
        for host in hosts:
            for known in await self._addresses(host, port):
                if known == address or (here and is_here(known)):
                    return True
        return False

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host or "0.0.0.0"))]
        except ValueError:
            pass
        try:
            return await self._resolve(host, port)
        except OSError:
            return []


def is_here(address: str) -> bool:
    """Whether an address is one of this machine's own; nothing is sent to find out."""
    found = ipaddress.ip_address(address)
    if found.is_loopback or found.is_unspecified:
        return True
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Whoever talks to an address of his own does so from that address.
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:
        return False
