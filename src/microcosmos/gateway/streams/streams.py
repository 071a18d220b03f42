"""One stream: which form it has, the call behind it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import errors
from microcosmos.gateway import answer
from microcosmos.gateway.patience import Patience
from microcosmos.gateway.routes import Route
from microcosmos.rpc import Call, Client, Stream

from . import applications, ndjson, sse
from .beats import EVERY, Beats
from .descriptors import Descriptors
from .handshake import Handshakes
from .ndjson import Ndjson
from .origins import Origins
from .outlet import Form, Outlet
from .room import Room
from .sse import Events
from .websocket import WebSocket

MAX_STREAMS = 3000
"""Streams that one gateway process carries at once, WebSockets included."""

OPENING = 1.0
"""Seconds after which an answer begins although nothing is to be said yet.

What fails sooner, and before the first message, is answered by its own status.
"""

LAST = 2.0
"""Seconds that streams go on once the gateway stops; then they are told to come again."""

CLOSING = 1.0
"""Seconds that those who were told so may take to close."""

_GONE = (RSGIProtocolClosed, RSGIProtocolError)
_LINES = Ndjson()
_EVENTS = Events()

# https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1, and 4000 and more for applications.
_ENDED = 1000
_RESTARTING = 1012
_FAILED = 4000


class Stopping(errors.Unavailable):
    """The gateway stops; another one, or the next, carries on."""


asked = re.compile("event-stream|ndjson|jsonl", re.IGNORECASE).search
"""Finds in an Accept header whether a stream may be asked for; most requests pay for this."""


def form_of(route: Route, request: dict[str, str]) -> Form | None:
    """The form of the answer that a request asks for; None is one answer."""
    accepted = request.get("accept", "").lower()
    if sse.KIND in accepted:
        return _EVENTS
    if any(kind in accepted for kind in ndjson.KINDS):
        return _LINES
    return _LINES if route.stream in ("server", "both") else None


class Streams:
    """Carries streams between clients and services.

    Args:
        client: opens the calls.
        patience: tells which clients have gone.
        origins: from which pages WebSockets are let in.
        most: how many streams at once.
        every: seconds between pings.
    """

    def __init__(
        self,
        client: Client,
        patience: Patience,
        *,
        origins: Origins,
        most: int = MAX_STREAMS,
        every: float = EVERY,
    ) -> None:
        self._client = client
        self._patience = patience
        self._origins = origins
        self._most = most
        self._open: set[Stream] = set()
        self._none = asyncio.Event()
        self._stopped = False
        self._beats = Beats(every)
        self._descriptors = Descriptors()
        self._handshakes = Handshakes(self._descriptors, self._beats)

    def room(self, scope: Any) -> Room:
        """The room that an answer has on its connection."""
        return Room(scope, self._descriptors)

    async def answer(
        self,
        call: Call,
        items: AsyncIterator[bytes] | None,
        form: Form | None,
        scope: Any,
        proto: Any,
        request: dict[str, str],
    ) -> None:
        """Answer a request by a stream, or a stream of its own by one answer.

        Args:
            call: the request.
            items: what the client streams.
            form: how the answer looks; None is one answer.
            scope: the request, as Granian has it.
            proto: its exchange.
            request: its headers.

        Raises:
            errors.Error: nothing has been answered yet; it is for the caller to tell.
        """
        if scope.method == "HEAD" and form is not None:
            proto.response_empty(200, _headers(request, form))
            return
        async with self._opened(call) as stream:
            self._patience.begin(proto)
            sending = asyncio.create_task(_send(items, stream)) if items is not None else None
            try:
                if sending is None:
                    await stream.end()
                if form is None:
                    answer.send(proto, request, await _only(stream, call))
                else:
                    outlet = Outlet(scope, proto, _headers(request, form), form, self._descriptors)
                    await self._pour(stream, outlet)
            finally:
                self._patience.end(proto)
                if sending is not None:
                    sending.cancel()

    async def converse(
        self, call: Call, takes: bool, scope: Any, proto: Any, request: dict[str, str]
    ) -> None:
        """Let a WebSocket in, and carry its messages both ways.

        Args:
            call: the request.
            takes: whether the endpoint takes what the client streams.
            scope: the request, as Granian has it.
            proto: its exchange.
            request: its headers.

        Raises:
            errors.Error: it was not let in; it is for the caller to tell.
        """
        self._origins.check(request.get("origin", ""), request.get("host", ""))
        async with self._opened(call) as stream:
            try:
                socket = await self._handshakes.accept(scope, proto)
            except _GONE:
                return
            try:
                await _converse(socket, stream, takes)
            finally:
                socket.release()

    async def carry(self, call: Call, scope: Any, proto: Any, request: dict[str, str]) -> None:
        """Let a WebSocket in to an application, and carry its messages both ways as they are.

        Args:
            call: the request, with a `rpc.http.RequestHead`.
            scope: the request, as Granian has it.
            proto: its exchange.
            request: its headers.

        Raises:
            errors.Error: it was not let in; it is for the caller to tell.
        """
        self._origins.check(request.get("origin", ""), request.get("host", ""))
        async with self._opened(call) as stream:
            await applications.admitted(stream, call)
            try:
                socket = await self._handshakes.accept(scope, proto, marked=True)
            except _GONE:
                return
            try:
                await applications.carry(socket, stream)
            except errors.Error as error:
                await socket.close(_FAILED + error.code, error.detail)
            except asyncio.CancelledError:
                await socket.close(_RESTARTING, _stopping().detail)
            finally:
                socket.release()

    def refuse(
        self,
        scope: Any,
        proto: Any,
        request: dict[str, str],
        error: errors.Error,
        metadata: dict[str, str],
    ) -> None:
        """Tell a WebSocket's client why it is not let in."""
        self._handshakes.refuse(scope, proto, request, error, metadata)

    async def stop(self, last: float) -> None:
        """Wait ``last`` seconds for the streams to end, then end them, and let no more begin."""
        await self._ended(last)
        self._stopped = True
        for stream in list(self._open):
            await stream.close(_stopping())
        await self._ended(CLOSING)

    async def _ended(self, limit: float) -> None:
        """Wait until no stream is open, for so many seconds at most."""
        self._none.clear()
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none.wait(), limit)

    @contextlib.asynccontextmanager
    async def _opened(self, call: Call) -> AsyncIterator[Stream]:
        if self._stopped:
            raise _stopping()
        if len(self._open) >= self._most:
            detail = f"the gateway carries {self._most} streams already; try again later"
            raise errors.Unavailable("gateway", detail)
        stream = await self._client.open(call)
        self._open.add(stream)
        try:
            yield stream
        finally:
            await stream.close()
            self._open.discard(stream)
            if not self._open:
                self._none.set()

    async def _pour(self, stream: Stream, outlet: Outlet) -> None:
        """Send a stream's messages, and its end or what has ended it."""
        opening = asyncio.get_running_loop().call_later(OPENING, outlet.open)
        self._beats.add(outlet)
        try:
            async for message in stream:
                await outlet.send(message)
            await outlet.end()
        except errors.Error as error:
            if not outlet.opened:
                raise
            outlet.fail(error)
        except asyncio.CancelledError:
            # The client has gone, or the time to drain is over; this task ends here either way.
            if not outlet.opened:
                raise
            outlet.fail(_stopping())
        except _GONE:
            pass
        finally:
            opening.cancel()
            self._beats.discard(outlet)
            outlet.close()


async def _converse(socket: WebSocket, stream: Stream, takes: bool) -> None:
    receiving = asyncio.create_task(_receive(socket, stream, takes))
    try:
        async for message in stream:
            await socket.send(message)
        await socket.close(_ENDED)
    except errors.Error as error:
        await _tell(socket, error)
    except asyncio.CancelledError:
        await _tell(socket, _stopping())
    finally:
        receiving.cancel()


async def _tell(socket: WebSocket, error: errors.Error) -> None:
    code = _RESTARTING if isinstance(error, Stopping) else _FAILED + error.code
    await socket.send(ndjson.wrapped(error))
    await socket.close(code, error.detail)


async def _receive(socket: WebSocket, stream: Stream, takes: bool) -> None:
    """Carry what a client says to its endpoint; an empty message is the end of it."""
    if not takes:
        await stream.end()
    try:
        while (message := await socket.receive()) is not None:
            if not message:
                await stream.end()
            elif takes:
                await stream.send(message)
            else:
                detail = "this endpoint takes no messages; its request is the query string"
                raise errors.BadRequest("gateway", detail)
        await stream.close()
    except errors.Error as error:
        await stream.close(error)


async def _send(items: AsyncIterator[bytes], stream: Stream) -> None:
    """Carry what a client streams in its body."""
    try:
        async for item in items:
            await stream.send(item)
        await stream.end()
    except errors.Error as error:
        # Told to whom reads the answers, unless the stream is over anyway.
        await stream.close(error)


async def _only(stream: Stream, call: Call) -> bytes:
    """The one answer of an endpoint whose client streams."""
    async for message in stream:
        return message
    raise errors.BadGateway(call.service, f"{call.endpoint} of {call.service} gave no answer")


def _headers(request: dict[str, str], form: Form) -> list[answer.Header]:
    return [
        ("content-type", form.kind),
        ("cache-control", "no-store"),
        # A proxy would otherwise gather what is to go out at once.
        ("x-accel-buffering", "no"),
        *answer.headers_of(request)[1:],
    ]


def _stopping() -> Stopping:
    return Stopping("gateway", "the gateway is stopping; open the stream again")
