"""The gateway on Granian: one worker in this process, on a socket that somebody else bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from granian._granian import SocketHolder
from granian.http import HTTP1Settings
from granian.server.embed import Server

BACKLOG = 1024
HEADERS_LIMIT = 64 * 1024
"""The most bytes of a request's line and headers."""

_PER_WORKER = 4096


class _Worker(Server):
    """Granian's embedded server, listening where it is told to.

    Granian binds for itself, and with port sharing, which hides a port in use; so the supervisor
    binds and hands the socket on. The one method that binds is replaced.
    """

    def __init__(self, app: Any, listening: socket.socket) -> None:
        self._listening = listening
        super().__init__(
            app,
            backlog=BACKLOG,
            backpressure=_PER_WORKER,
            websockets=False,
            http1_settings=HTTP1Settings(header_read_timeout=15_000, max_buffer_size=HEADERS_LIMIT),
            log_enabled=False,
        )

    def _init_shared_socket(self) -> None:
        # The stub of SocketHolder knows no constructor, and the attributes have no types.
        holder: Any = SocketHolder
        self._shd = holder(self._listening.fileno(), False, BACKLOG)


@contextlib.asynccontextmanager
async def serve(app: Any, listening: socket.socket, *, drain: float = 10.0) -> AsyncIterator[None]:
    """Serve an RSGI application until the block ends; requests being answered are finished."""
    listening.setblocking(False)
    worker: Any = _Worker(app, listening)
    serving = asyncio.create_task(worker.serve(), name="gateway worker")
    try:
        yield
    finally:
        worker.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, drain)
