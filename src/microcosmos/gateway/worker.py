"""The gateway on Granian: one worker in this process, on a socket that somebody else bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes
from granian.http import HTTP1Settings
from granian.server.embed import Server

BACKLOG = 1024
HEADERS_LIMIT = 64 * 1024
"""About the most bytes of a request's line and headers; more than 100 headers are too many."""

HEADER_TIMEOUT = 15.0
"""Seconds that a connection may stay without a whole request's headers, the idle ones too."""

WRITE_TIMEOUT = 30.0
"""Seconds after which a client that takes nothing of its answer is dropped (on Linux)."""

DRAIN = 10.0
"""Seconds that requests may still take once the gateway stops."""

_CANCELLED = 1.0
"""Seconds that requests cancelled at the end of `DRAIN` may still take."""

_PER_WORKER = 4096


class _Worker(Server):
    """Granian's embedded server, listening where it is told to.

    Granian binds for itself, and with port sharing, which hides a port in use; so the supervisor
    binds and hands the socket on. The one method that binds is replaced.

    HTTP/1.1 only: while Granian waits to see which version a client speaks, no timeout runs, and
    nobody speaks HTTP/2 without TLS unless told to.
    """

    def __init__(self, app: Any, listening: socket.socket, header_timeout: float) -> None:
        self._listening = listening
        super().__init__(
            app,
            backlog=BACKLOG,
            backpressure=_PER_WORKER,
            websockets=False,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(header_timeout * 1000), max_buffer_size=HEADERS_LIMIT
            ),
            log_enabled=False,
        )

    def _init_shared_socket(self) -> None:
        # The stub of SocketHolder knows no constructor, and the attributes have no types.
        holder: Any = SocketHolder
        # Granian closes it when it stops: were it ours too, another file's number would be closed,
        # and new connections would wait for nobody while the last requests are finished.
        self._shd = holder(self._listening.detach(), False, BACKLOG)


@contextlib.asynccontextmanager
async def serve(
    app: Any,
    listening: socket.socket,
    *,
    drain: float = DRAIN,
    header_timeout: float = HEADER_TIMEOUT,
    write_timeout: float = WRITE_TIMEOUT,
) -> AsyncIterator[None]:
    """Serve an RSGI application until the block ends; requests being answered are finished.

    Args:
        app: the application.
        listening: where; it is taken over and closed.
        drain: seconds that the last requests may take; then they are cancelled.
        header_timeout: seconds that a connection may take to send a request's headers.
        write_timeout: seconds that a client may take nothing of its answer.
    """
    _prepare(listening, write_timeout)
    worker: Any = _Worker(app, listening, header_timeout)
    serving = asyncio.create_task(worker.serve(), name="gateway worker")
    try:
        yield
    finally:
        worker.stop()
        await _drained(serving, drain)


def _prepare(listening: socket.socket, write_timeout: float) -> None:
    """Set what connections inherit from their listener."""
    listening.setblocking(False)
    if listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(write_timeout * 1000)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


async def _drained(serving: asyncio.Task[None], drain: float) -> None:
    """Wait for the last requests, and cancel those that take too long."""
    done, _ = await asyncio.wait((serving,), timeout=drain)
    if not done:
        for task in asyncio.all_tasks():
            if _answers(task):
                task.cancel()
        await asyncio.wait((serving,), timeout=_CANCELLED)
    # Who does not read its answer keeps Granian's thread, which ends with the process.
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _answers(task: asyncio.Task[Any]) -> bool:
    """Whether a task is one that Granian made for a request; it keeps no list of them."""
    name: str = getattr(task.get_coro(), "__qualname__", "")
    return name.startswith("_future_watcher_wrapper.")
