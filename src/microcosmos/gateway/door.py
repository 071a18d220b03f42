"""The small gateway of a service that runs alone, without a server."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import AsyncIterator

from microcosmos.base import errors, names
from microcosmos.registry import Table
from microcosmos.rpc import Client

from .app import Gateway
from .edge import from_environment
from .front.front import Front
from .streams.origins import parse
from .worker import serve

_ANYWHERE = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def open_door(client: Client, table: Table, address: str = "") -> AsyncIterator[str]:
    """Answer HTTP for what a table knows, on ``address`` or a free port, and print the URL.

    Raises:
        errors.BadRequest: it is no address, or none of this machine.
        errors.Conflict: the port is in use.
    """
    with _listen(address or _ANYWHERE) as listening:
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        gateway = Gateway(client, table, origins=parse(from_environment().allowed_origins))
        gateway.ready = True
        async with serve(Front(gateway, table), listening, websockets=True):
            sys.stderr.write(f"no server runs here, so this service is alone, at {url}\n")
            for service in table.services():
                if service.name not in names.RESERVED and service.endpoints:
                    path = names.to_path(service.name, service.endpoints[0].name)
                    sys.stderr.write(f"  curl {url}{path}\n")
            sys.stderr.flush()
            yield url
            await gateway.end_streams()


def _listen(address: str) -> socket.socket:
    """Bind and listen at ``host:port``."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise errors.BadRequest(
            "gateway", f"MICRO_API_ADDRESS: {address!r} is not of the form host:port"
        )
    host = host.strip("[]") or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise errors.Conflict(
                "gateway", f"port {port} is in use; set MICRO_API_ADDRESS to another ({_ANYWHERE})"
            ) from None
        raise errors.BadRequest(
            "gateway", f"MICRO_API_ADDRESS: cannot listen at {address}: {exc.strerror}"
        ) from None
