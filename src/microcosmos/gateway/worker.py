"""The gateway on Granian: one worker in this process, on a socket that somebody else bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from granian._granian import RSGIWorker, SocketHolder
from granian.constants import HTTPModes, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import AsyncWorker, Server

from microcosmos.base import errors
from microcosmos.base.tasks import background
from microcosmos.base.tls import Files

from .handing import Begin, Handing, Note, answers, begin_of
from .http2 import Http2
from .idle import Idle
from .request import Noted

BACKLOG = 1024
HEADERS_LIMIT = 64 * 1024
"""About the most bytes of a request's line and headers; more than 100 headers are too many."""

HEADER_TIMEOUT = 15.0
"""Seconds that a connection may stay without a whole request's headers, the idle ones too."""

WRITE_TIMEOUT = 30.0
"""Seconds after which a client that takes nothing of its answer is dropped (on Linux)."""

PROBE = 15
"""Seconds of silence after which the kernel asks whether a client is there, three times."""

DRAIN = 10.0
"""Seconds that requests may still take once the gateway stops."""

LEAVING = 1.0
"""Seconds in which clients with open connections are told to make new ones, to a successor."""

STREAMS = 128
"""Requests that one HTTP/2 connection may have under way."""

WINDOW = 1024 * 1024
"""Bytes of requests' bodies that an HTTP/2 connection may send ahead of their reader."""

_CANCELLED = 1.0
"""Seconds that requests cancelled at the end of `DRAIN` may still take."""

_PER_WORKER = 4096
_CLOSE = [("connection", "close")]


def _nothing() -> None:
    pass


async def _run(
    number: int, stop: Any, entry: _Entry, listening: Any, loop: Any, *given: Any
) -> None:
    """Run what Granian calls a worker; it is given what Granian's own function is."""
    *threads, backpressure, _, mode, http1, http2, websockets, files, _, tls, _ = given
    kind: Any = RSGIWorker
    worker = kind(
        *(number, listening, None, *threads, backpressure, mode, http1, http2, websockets),
        *(files, *tls, (None, None)),
    )
    stopped = loop.create_future()
    stop.add_cb(lambda: loop.call_soon_threadsafe(stopped.set_result, None))
    worker.serve_async(Handing(loop, entry.begin), loop, stop)
    await stopped


class _Worker(Server):
    """Granian's embedded server, listening where it is told to.

    Granian binds for itself, and with port sharing, which hides a port in use; so the supervisor
    binds and hands the socket on. The one method that binds is replaced, and so is the one that
    runs coroutines: see `handing`.

    HTTP/1.1 only, unless told otherwise: while Granian waits to see which version a client
    speaks, no timeout of its own runs, so that `Idle` has to look after the connections.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        header_timeout: float,
        tls: Files | None,
        http2: bool,
        websockets: bool,
    ) -> None:
        self._listening = listening
        wrap: Any = AsyncWorker.wrap_target
        self._spawn_rsgi_worker = wrap(_run)
        super().__init__(
            app,
            backlog=BACKLOG,
            backpressure=_PER_WORKER,
            websockets=websockets,
            http=HTTPModes.auto if http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(header_timeout * 1000), max_buffer_size=HEADERS_LIMIT
            ),
            http2_settings=HTTP2Settings(
                initial_connection_window_size=WINDOW,
                initial_stream_window_size=WINDOW // 4,
                keep_alive_interval=int(header_timeout * 1000),
                max_concurrent_streams=STREAMS,
                max_headers_size=HEADERS_LIMIT,
            ),
            log_enabled=False,
            ssl_cert=tls.certificate if tls else None,
            ssl_key=tls.key if tls else None,
            ssl_ca=tls.client_ca if tls else None,
            ssl_client_verify=bool(tls and tls.client_ca),
            ssl_protocol_min=SSLProtocols.tls12,
        )

    def _init_shared_socket(self) -> None:
        # The stub of SocketHolder knows no constructor, and the attributes have no types.
        holder: Any = SocketHolder
        # Granian closes it when it stops: were it ours too, another file's number would be closed,
        # and new connections would wait for nobody while the last requests are finished.
        self._shd = holder(self._listening.detach(), False, BACKLOG)


class _Entry:
    """What Granian calls: the application, behind something else while the worker leaves."""

    def __init__(self, app: Any) -> None:
        self._begin = begin_of(app)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        return self._begin(scope, proto, note)

    def leave(self) -> None:
        """From now on every answer says that its connection ends."""
        self._begin = partial(_last, self._begin)


def _last(begin: Begin, scope: Any, proto: Any, note: Note | None) -> Any:
    # HTTP/2 has a frame of its own for this, which Granian sends when it stops.
    if scope.proto == "http" and scope.http_version != "2":
        proto = Noted(proto, _CLOSE)
    return begin(scope, proto, note)


class Serving:
    """A worker that serves; made by `serve`."""

    def __init__(self, entry: _Entry, descriptor: int) -> None:
        self._entry = entry
        self._descriptor = descriptor

    async def leave(self, linger: float = LEAVING) -> None:
        """Let a successor on the same socket have the new connections, and the open ones' clients.

        Who asks again within ``linger`` seconds is answered, and told that the connection ends;
        what is idle after that is closed when the block is left. So nobody's request meets a
        connection that is just being closed.
        """
        self._entry.leave()
        # Another socket takes the listening one's number. Closing it would confuse Granian; and
        # it cannot be told to accept nothing more while connections go on.
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            nobody.setblocking(False)
            os.dup2(nobody.fileno(), self._descriptor, inheritable=False)
        await asyncio.sleep(linger)


@contextlib.asynccontextmanager
async def serve(
    app: Any,
    listening: socket.socket,
    *,
    drain: float = DRAIN,
    header_timeout: float = HEADER_TIMEOUT,
    write_timeout: float = WRITE_TIMEOUT,
    tls: Files | None = None,
    http2: bool = False,
    websockets: bool = False,
    give_up: Callable[[], None] = _nothing,
) -> AsyncIterator[Serving]:
    """Serve an RSGI application until the block ends; requests being answered are finished.

    Args:
        app: the application.
        listening: where; it is taken over and closed.
        drain: seconds that the last requests may take; then they are cancelled.
        header_timeout: seconds that a connection may take to send a request's headers.
        write_timeout: seconds that a client may take nothing of its answer.
        tls: the certificate; None serves without TLS.
        http2: whether HTTP/2 is spoken too: chosen in the TLS handshake, or by prior knowledge.
        websockets: whether the application takes them; else they are requests like others.
        give_up: cancels the last requests that no coroutine answers.

    Raises:
        errors.Unavailable: TLS does not take the certificate.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Of no effect once Granian has it.
        stack.callback(listening.close)
        _prepare(listening, write_timeout)
        if http2:
            app = Idle(Http2(app), listening.getsockname()[1])
            await stack.enter_async_context(background(app.close_idle(header_timeout), "idle"))
        entry = _Entry(app)
        descriptor = listening.fileno()
        worker: Any = _Worker(entry, listening, header_timeout, tls, http2, websockets)
        serving = asyncio.create_task(worker.serve(), name="gateway worker")
        try:
            await _started(serving)
            yield Serving(entry, descriptor)
        finally:
            worker.stop()
            await _drained(serving, drain, give_up)


async def _started(serving: asyncio.Task[None]) -> None:
    """Wait until connections are accepted: Granian fails then or never."""
    for _ in range(5):
        await asyncio.sleep(0)
    if serving.done():
        raise errors.Unavailable("gateway", "the gateway cannot serve with this certificate")


def _prepare(listening: socket.socket, write_timeout: float) -> None:
    """Set what connections inherit from their listener."""
    listening.setblocking(False)
    if listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(listening)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(write_timeout * 1000)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _keep_alive(listening: socket.socket) -> None:
    """Let the kernel find out who is gone without a word: nothing is sent on an idle stream."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", PROBE), ("TCP_KEEPINTVL", PROBE), ("TCP_KEEPCNT", 3)):
        if option := getattr(socket, name, None):
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


async def _drained(serving: asyncio.Task[None], drain: float, give_up: Callable[[], None]) -> None:
    """Wait for the last requests, and cancel those that take too long."""
    done, _ = await asyncio.wait((serving,), timeout=drain)
    if not done:
        for task in asyncio.all_tasks():
            if answers(task):
                task.cancel()
        give_up()
        await asyncio.wait((serving,), timeout=_CANCELLED)
    # Who does not read its answer keeps Granian's thread, which ends with the process.
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
