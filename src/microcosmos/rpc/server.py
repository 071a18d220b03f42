"""Server: the endpoints of one process, whatever transport a call comes by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from microcosmos.base import context, errors, names
from microcosmos.base.schema import Value

from .interface import MAX_BODY, Call, Handler, Middleware, StreamHandler, too_large

if TYPE_CHECKING:
    from .client import Client

log = logging.getLogger("microcosmos.rpc")

_metadata = context.Metadata.wrap

Verifier = Callable[[Call, "Endpoint"], object | None]
"""Says who calls, or raises Unauthorized or Forbidden; it decides from memory."""

Access = Literal["rules", "open", "read", "account", "service", "admin", "platform"]
"""What an endpoint asks of who calls it.

``rules``: what the rules of the namespace say, which is all that deployed services ask for. Core
services protect themselves: ``open`` to everybody, always; ``read`` where a rule lets everybody
in, else for any account; any ``account`` of the namespace; a ``service`` or an admin; an
``admin``; the ``platform`` itself or who administers it.
"""

Function = Callable[[bytes], Awaitable[bytes]]
"""Takes the JSON body of a request, gives the JSON body of the answer."""

StreamFunction = Callable[[bytes, AsyncIterator[bytes]], AsyncGenerator[bytes, None]]
"""Takes the JSON body of a request and the messages after it, gives the messages of the answer."""


RECHECK = 0.5
"""Seconds after which it is looked again who has a stream: one that may no longer is ended."""

STREAM = "stream"
"""Metadata of an endpoint that answers with a stream or takes one: ``true``."""

CALLER = "micro.stream"
"""Metadata of an endpoint whose caller streams: ``client``, or ``both`` if it does so too."""

ITEMS = "micro.items"
"""Metadata of an endpoint whose caller streams beside a request: the field that has the items."""


class Stats:
    """Counters of one endpoint since the server started; times in seconds.

    A stream counts as one request when it has ended, and for no time: most of it is waiting. Of
    what comes on it the first message is counted, of what goes all.
    """

    __slots__ = (
        *("errors", "failures", "last_error", "processing_time", "request_bytes", "requests"),
        "response_bytes",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.processing_time = 0.0
        self.last_error = ""
        self.failures: dict[int, int] = {}
        self.request_bytes = 0
        self.response_bytes = 0


class Endpoint:
    """Something a service can be asked.

    Args:
        name: ``Handler.Method``.
        function: what answers; one that streams is given as ``stream`` instead.
        stream: what answers with a stream, or takes one.
        request: the shape of the request.
        response: the shape of the answer, or of each message of it.
        metadata: what the registry shows beside it.
        schema: what it takes and gives as JSON Schema; see `rpc.contract`.
        access: who may call it.
    """

    def __init__(
        self,
        name: str,
        function: Function | None = None,
        request: Value | None = None,
        response: Value | None = None,
        metadata: Mapping[str, str] | None = None,
        schema: bytes = b"{}",
        *,
        stream: StreamFunction | None = None,
        access: Access = "rules",
    ) -> None:
        self.name = name
        self.function = function
        self.stream = stream
        self.request = request or Value()
        self.response = response or Value()
        self.metadata = dict(metadata or {})
        self.schema = schema
        self.access = access
        self.stats = Stats()


class Hosted:
    """One service of this process, as the server knows it."""

    def __init__(
        self,
        name: str,
        endpoints: Iterable[Endpoint],
        *,
        version: str = "latest",
        metadata: Mapping[str, str] | None = None,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.metadata = dict(metadata or {})
        self.endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        around = tuple(middleware)[::-1]
        every = self.endpoints.values()
        self.handlers = {one.name: _handler(one, around) for one in every}
        self.streams = {one.name: _stream_handler(one, around) for one in every}


def _handler(endpoint: Endpoint, around: tuple[Middleware, ...]) -> Handler:
    function = endpoint.function
    if function is None:
        return _streams_only

    def innermost(call: Call) -> Awaitable[bytes]:
        return function(call.body)

    handler: Handler = innermost
    for middleware in around:
        handler = middleware.call(handler)
    return handler


def _stream_handler(endpoint: Endpoint, around: tuple[Middleware, ...]) -> StreamHandler:
    function = endpoint.stream or _of_one(endpoint.function)

    def innermost(call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        return function(call.body, messages)

    handler: StreamHandler = innermost
    for middleware in around:
        handler = middleware.stream(handler)
    return handler


async def _streams_only(call: Call) -> bytes:
    detail = f"{call.endpoint} streams: open it as a stream (`micro stream`, or a WebSocket)"
    raise errors.BadRequest(call.service, detail)


def _of_one(function: Function | None) -> StreamFunction:
    """A stream of the one answer of a function."""
    assert function is not None, "an endpoint has a function or a stream"

    async def stream(body: bytes, _: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        yield await function(body)

    return stream


class Server:
    """Dispatches calls to the services of this process, and counts them.

    Args:
        verifier: says who calls; without one every call is anonymous.
        client: what handlers make their own calls with.
        namespace: where all calls are made, whatever they say; empty is what each says.

    Attributes:
        services: by name.
        active: how many calls and streams are being handled.
        draining: whether it is stopping.
        growing: whether more services are about to be added: others than these are waited for.
    """

    def __init__(
        self,
        *,
        verifier: Verifier | None = None,
        client: Client | None = None,
        namespace: str = "",
    ) -> None:
        self.services: dict[str, Hosted] = {}
        self.client = client
        self._verifier = verifier
        self._namespace = namespace
        # What streams, each with its call; and of those that were ended, by what.
        self._streaming: dict[asyncio.Task[Any], tuple[Call, Endpoint]] = {}
        self._refused: dict[asyncio.Task[Any], errors.Error] = {}
        self._rechecking = False
        self.active = 0
        self._drained: asyncio.Event | None = None
        self.draining = False
        self.growing = False

    def add(self, service: Hosted) -> None:
        """Answer for one more service.

        Raises:
            errors.BadRequest: a name that cannot be one.
            errors.Conflict: this process serves that name already.
        """
        names.check_service(service.name)
        for endpoint in service.endpoints:
            names.check_endpoint(endpoint)
        if service.name in self.services:
            raise errors.Conflict("rpc", f"{service.name} is served by this process already")
        self.services[service.name] = service

    async def handle(self, call: Call) -> bytes:
        """Answer one call.

        Raises:
            errors.Error: always of this tree; anything else a handler raises is logged and
                becomes a 500 that tells nothing private.
        """
        hosted = self.services.get(call.service)
        handler = hosted.handlers.get(call.endpoint) if hosted else None
        if hosted is None or handler is None:
            raise self._unknown(call, hosted)
        endpoint = hosted.endpoints[call.endpoint]
        stats = endpoint.stats
        started = time.monotonic()
        here = self._enter(call, started)
        try:
            if self._verifier is not None:
                here.account = self._verifier(call, endpoint)
            answer = await handler(call)
            if (size := len(answer)) > MAX_BODY:
                raise too_large(call, "answer", size)
            stats.response_bytes += size
            return answer
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - all of it must become an answer
            raise self._failed(call, stats, exc) from None
        except asyncio.CancelledError as exc:
            # Of something that the handler waited for, unless the call itself was cancelled.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise self._failed(call, stats, exc) from None
        finally:
            stats.processing_time += time.monotonic() - started
            self._leave(call, stats)

    async def stream(
        self,
        call: Call,
        messages: AsyncIterator[bytes],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Answer a call with a stream; an endpoint that answers once is a stream of one message.

        Args:
            call: the request.
            messages: what its caller sends after it.
            send: takes each message of the answer; while it waits, so does the handler.

        Raises:
            errors.Error: as `handle` does.
        """
        hosted = self.services.get(call.service)
        handler = hosted.streams.get(call.endpoint) if hosted else None
        if hosted is None or handler is None:
            raise self._unknown(call, hosted)
        endpoint = hosted.endpoints[call.endpoint]
        stats = endpoint.stats
        here = self._enter(call, time.monotonic())
        task = asyncio.current_task()
        try:
            if self._verifier is not None:
                here.account = self._verifier(call, endpoint)
                self._watch(task, call, endpoint)
            async with aclosing(handler(call, messages)) as answers:
                async for answer in answers:
                    if (size := len(answer)) > MAX_BODY:
                        raise too_large(call, "message", size)
                    stats.response_bytes += size
                    await send(answer)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - all of it must become an answer
            raise self._failed(call, stats, exc) from None
        except asyncio.CancelledError as exc:
            if task is not None and (refused := self._refused.get(task)) is not None:
                task.uncancel()
                raise self._failed(call, stats, refused) from None
            if task is None or task.cancelling():
                raise
            raise self._failed(call, stats, exc) from None
        finally:
            if task is not None:
                self._streaming.pop(task, None)
                self._refused.pop(task, None)
            self._leave(call, stats)

    def _watch(self, task: asyncio.Task[Any] | None, call: Call, endpoint: Endpoint) -> None:
        """Look again and again, while a stream lasts, whether its caller may still have it."""
        if task is None or endpoint.access == "open":
            return
        self._streaming[task] = call, endpoint
        if not self._rechecking:
            self._rechecking = True
            asyncio.get_running_loop().call_later(RECHECK, self._recheck)

    def _recheck(self) -> None:
        assert self._verifier is not None
        for task, (call, endpoint) in self._streaming.items():
            try:
                self._verifier(call, endpoint)
            except errors.Error as error:
                if task not in self._refused:
                    self._refused[task] = error
                    task.cancel()
        self._rechecking = bool(self._streaming)
        if self._rechecking:
            asyncio.get_running_loop().call_later(RECHECK, self._recheck)

    def _enter(self, call: Call, now: float) -> context.Context:
        """The context of a call that begins; it is the current one of this task."""
        deadline = None if call.timeout is None else now + call.timeout
        if self._namespace and self._namespace != call.metadata.get(
            context.NAMESPACE, context.DEFAULT_NAMESPACE
        ):
            call.metadata[context.NAMESPACE] = self._namespace
        here = context.Context(_metadata(call.metadata), deadline, None, self.client)
        context.set_current(here)
        self.active += 1
        return here

    def _leave(self, call: Call, stats: Stats) -> None:
        stats.requests += 1
        stats.request_bytes += len(call.body)
        self.active -= 1
        if self._drained is not None and not self.active:
            self._drained.set()

    def _failed(self, call: Call, stats: Stats, exc: BaseException) -> errors.Error:
        error = errors.from_exception(exc, call.service)
        stats.errors += 1
        stats.failures[error.code] = stats.failures.get(error.code, 0) + 1
        stats.last_error = str(error)
        if not isinstance(exc, errors.Error):
            # The cause is in the first line too, which is what a search by trace finds.
            log.error("%s %s failed: %r", call.service, call.endpoint, exc, exc_info=exc)
        return error

    async def drain(self, timeout: float) -> bool:
        """Wait until no call is being handled; False if ``timeout`` seconds were not enough."""
        self.draining = True
        if not self.active:
            return True
        # Each transport drains in its turn, and calls by another may have come since.
        if self._drained is None or self._drained.is_set():
            self._drained = asyncio.Event()
        try:
            await asyncio.wait_for(self._drained.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _unknown(self, call: Call, hosted: Hosted | None) -> errors.Error:
        if hosted is None and self.growing:
            return errors.Unavailable("rpc", f"{call.service} is about to be here; try again")
        if hosted is None:
            return errors.NotFound("rpc", f"service {call.service} is not here")
        there = ", ".join(sorted(hosted.endpoints)) or "none"
        return errors.NotFound(
            call.service, f"service {call.service} has no endpoint {call.endpoint}; it has: {there}"
        )
