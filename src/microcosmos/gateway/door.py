"""The small gateway of a service that runs alone, without a server."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator

from microcosmos.registry import Table
from microcosmos.rpc import Client

from .app import Gateway
from .worker import serve


@contextlib.asynccontextmanager
async def open_door(client: Client, table: Table, address: str = "") -> AsyncIterator[str]:
    """Answer HTTP for what a table knows, on ``address`` or a free port, and print the URL.

    Raises:
        errors.Conflict: the address is taken.
    """
    host, _, port = (address or "127.0.0.1:0").rpartition(":")
    with socket.create_server((host, int(port)), backlog=128) as listening:
        gateway = Gateway(client, table)
        gateway.ready = True
        async with serve(gateway, listening):
            url = f"http://{host}:{listening.getsockname()[1]}"
            sys.stderr.write(f"no server runs here, so this service is alone, at {url}\n")
            for service in table.services():
                if service.name != "registry":
                    sys.stderr.write(f"  curl {url}/{service.name.replace('.', '/')}\n")
            sys.stderr.flush()
            yield url
