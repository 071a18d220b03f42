"""Server: the endpoints of one process, whatever transport a call comes by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from microcosmos.base import context, errors
from microcosmos.base.schema import Value

from .interface import MAX_BODY, Call, Handler, Middleware

if TYPE_CHECKING:
    from .client import Client

log = logging.getLogger("microcosmos.rpc")

Verifier = Callable[[Call], Awaitable[object | None]]
"""Says who calls, or raises Unauthorized or Forbidden."""


class Stats:
    """Counters of one endpoint, since the server started; times in nanoseconds."""

    __slots__ = ("errors", "last_error", "processing_time", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.processing_time = 0
        self.last_error = ""


class Endpoint:
    """Something a service can be asked.

    Args:
        name: ``Handler.Method``.
        function: takes the JSON body of a request, gives the JSON body of the answer.
        request: the shape of the request.
        response: the shape of the answer.
        metadata: what the registry shows beside it.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[bytes], Awaitable[bytes]],
        request: Value | None = None,
        response: Value | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.request = request or Value()
        self.response = response or Value()
        self.metadata = dict(metadata or {})
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
        self.handlers = {
            name: _wrapped(endpoint, tuple(middleware)) for name, endpoint in self.endpoints.items()
        }


def _wrapped(endpoint: Endpoint, middleware: tuple[Middleware, ...]) -> Handler:
    function = endpoint.function

    async def innermost(call: Call) -> bytes:
        return await function(call.body)

    handler: Handler = innermost
    for wrap in reversed(middleware):
        handler = wrap(handler)
    return handler


class Server:
    """Dispatches calls to the services of this process, and counts them.

    Args:
        verifier: says who calls; without one every call is anonymous.
        client: what handlers make their own calls with.
    """

    def __init__(self, *, verifier: Verifier | None = None, client: Client | None = None) -> None:
        self.services: dict[str, Hosted] = {}
        self.client = client
        self._verifier = verifier
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    def add(self, service: Hosted) -> None:
        """Answer for one more service.

        Raises:
            errors.Conflict: this process serves that name already.
        """
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
            raise _unknown(call, hosted)
        stats = hosted.endpoints[call.endpoint].stats
        deadline = None if call.timeout is None else time.monotonic() + call.timeout
        here = context.Context(context.Metadata.wrap(call.metadata), deadline)
        here.client = self.client
        context.set_current(here)
        self._active += 1
        self._idle.clear()
        started = time.perf_counter_ns()
        try:
            if self._verifier is not None:
                here.account = await self._verifier(call)
            answer = await handler(call)
            if len(answer) > MAX_BODY:
                raise errors.TooLarge(call.service, _too_large("answer", len(answer)))
            return answer
        except Exception as exc:  # noqa: BLE001 - whatever a handler raises must become an answer
            raise self._failed(call, stats, exc) from None
        finally:
            stats.requests += 1
            stats.processing_time += time.perf_counter_ns() - started
            self._active -= 1
            if not self._active:
                self._idle.set()

    def _failed(self, call: Call, stats: Stats, exc: Exception) -> errors.Error:
        stats.errors += 1
        stats.last_error = str(exc)
        if not isinstance(exc, errors.Error):
            log.error("%s %s failed", call.service, call.endpoint, exc_info=exc)
        return errors.from_exception(exc, call.service)

    async def drain(self, timeout: float) -> bool:
        """Wait until no call is being handled; False if ``timeout`` seconds were not enough."""
        self.draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True


def check_size(call: Call) -> None:
    """Refuse a request over the limit before it is sent.

    Raises:
        errors.TooLarge: the body is over `MAX_BODY`.
    """
    if len(call.body) > MAX_BODY:
        raise errors.TooLarge(call.service, _too_large("request", len(call.body)))


def _too_large(what: str, size: int) -> str:
    return f"the {what} has {size} bytes; the limit of one call is {MAX_BODY}"


def _unknown(call: Call, hosted: Hosted | None) -> errors.Error:
    if hosted is None:
        return errors.NotFound("rpc", f"service {call.service} is not here")
    names = ", ".join(sorted(hosted.endpoints)) or "none"
    return errors.NotFound(
        call.service, f"service {call.service} has no endpoint {call.endpoint}; it has: {names}"
    )
