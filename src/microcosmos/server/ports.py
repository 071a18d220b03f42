"""The addresses of a server: bound before anything is started, so that a port in use is seen.

Sockets are bound with SO_REUSEADDR, so that a restart does not wait for old connections, and
without SO_REUSEPORT, which would let two servers share a port unawares.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from dataclasses import dataclass
from pathlib import Path

from microcosmos.base import errors

_BACKLOG = 1024

# Chosen ports lie below the ranges that Linux and macOS take for outgoing connections: a client
# that reconnects to a port of such a range may be given it as its own, and hold it against us.
_CHOSEN = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port, and the flag that chooses them.

    Attributes:
        host: an IP address.
        port: 0 is any free one.
        flag: as it is typed, ``--api_address``.
    """

    host: str
    port: int
    flag: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, port: int) -> Address:
        """The same with another port."""
        return Address(self.host, port, self.flag)


def parse(text: str, flag: str) -> Address:
    """Read ``host:port``.

    Raises:
        errors.BadRequest: it is no address.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise errors.BadRequest("server.ports", f"{flag}: {text!r} is not of the form host:port")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise errors.BadRequest(
            "server.ports", f"{flag}: {host!r} is neither an IP address nor localhost"
        ) from None
    return Address(str(ip), int(port), flag)


def reachable(address: Address) -> Address:
    """Where processes of this machine reach what listens at an address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return Address(host, address.port, address.flag)


def listen(address: Address) -> socket.socket:
    """Bind and listen; connections wait until a child accepts them.

    Raises:
        errors.Conflict: the port is in use; the detail names its holder.
    """
    try:
        return _bind(address)
    except OSError as exc:
        raise _refused(address, exc) from None


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        # Two sockets with SO_REUSEADDR may be bound alike: only listening tells them apart.
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def reserve(address: Address) -> Address:
    """Check that a port is free, or choose one for port 0, for a child that binds it itself.

    Raises:
        errors.Conflict: the port is in use; the detail names its holder.
    """
    if address.port:
        listen(address).close()
        return address
    return _choose(address)


def remembered(address: Address, file: Path) -> Address:
    """The port that this file remembers if it is free, else another one, remembered from now on."""
    try:
        kept = address.at(int(file.read_text()))
    except (OSError, ValueError):
        kept = address.at(0)
    if kept.port in _CHOSEN and _is_free(kept):
        return kept
    kept = _choose(address)
    file.write_text(f"{kept.port}\n")
    return kept


def _choose(address: Address) -> Address:
    for port in random.sample(_CHOSEN, 100):
        if _is_free(address.at(port)):
            return address.at(port)
    raise errors.Unavailable("server.ports", f"{address.flag}: no free port was found")


def _is_free(address: Address) -> bool:
    try:
        _bind(address).close()
    except OSError:
        return False
    return True


def _refused(address: Address, exc: OSError) -> errors.Error:
    if exc.errno == errno.EADDRINUSE:
        holder = _holder(address.port)
        detail = f"port {address.port} is in use by {holder}; use {address.flag}"
        return errors.Conflict("server.ports", detail)
    detail = f"cannot listen on {address}: {exc.strerror}; use {address.flag}"
    return errors.BadRequest("server.ports", detail)


def _holder(port: int) -> str:
    # Imported here: it is needed only on the way to an error.
    import psutil

    # macOS shows only the sockets of one's own processes, and those process by process.
    for process in psutil.process_iter(["name"]):
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            continue
        for one in sockets:
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                return f"PID {process.pid} ({process.info['name']})"
    return "another process"
