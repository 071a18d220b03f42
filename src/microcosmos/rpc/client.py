"""Client: calls a service by name, over the first transport that reaches it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from microcosmos.base import context, errors

from .interface import DEFAULT_TIMEOUT, Call, Gone, Resolver, Stream, Transport, Unreachable

RETRY_PAUSE = 0.05
"""Seconds, about, between a call that failed for a passing reason and its one retry."""

BEARER = "Bearer "
"""What the Authorization of a call that carries a token begins with."""

_TOKENS = ("bearer ", "bearer\t", "bearer")

Identity = Callable[[], str]
"""Gives the Authorization by which a process shows who it is; empty for none."""


class Client:
    """Calls services.

    A call made while another is being handled inherits that one's trace, metadata and what is
    left of its deadline, and is made for its caller: with that one's token, or with none. Any
    other is made by the process itself. A 408, 500, 504 or a lost connection is tried once more,
    within the deadline, unless the call or the endpoint says ``retry=False``.

    Args:
        transports: tried in order: the first one that reaches the service carries the call.
        resolver: tells an unknown service (404) from one of which none is alive (503).
        timeout: seconds that calls wait unless they say otherwise.
        identity: what calls of the process itself show; None shows nothing.
        namespace: where calls are made; empty is where the call that is being handled was made.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        resolver: Resolver | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        identity: Identity | None = None,
        namespace: str = "",
    ) -> None:
        self._transports = tuple(transports)
        self._resolver = resolver
        self._timeout = timeout
        self._identity = identity
        self._namespace = namespace
        self._as_self = False

    def own(self) -> Client:
        """The same client, whose calls are the process's own whoever is being served."""
        return self._with(self._identity, as_self=True)

    def showing(self, identity: Identity | None) -> Client:
        """The same client, whose calls outside of handlers show something else; None is nothing."""
        return self._with(identity, as_self=False)

    def _with(self, identity: Identity | None, *, as_self: bool) -> Client:
        other = Client(
            self._transports,
            self._resolver,
            timeout=self._timeout,
            identity=identity,
            namespace=self._namespace,
        )
        other._as_self = as_self
        return other

    async def call(
        self,
        service: str,
        endpoint: str,
        body: bytes = b"{}",
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retry: bool = True,
        as_self: bool = False,
    ) -> bytes:
        """Call an endpoint with a JSON body and return the JSON of its answer.

        Args:
            service: whose.
            endpoint: which.
            body: the request.
            metadata: beside what is inherited.
            timeout: seconds to wait, if the caller's deadline leaves as many.
            retry: whether to try again after a passing failure.
            as_self: call as the process itself, for whomever a call is being handled.

        Raises:
            errors.BadRequest: metadata that could not be sent.
            errors.NotFound: no such service or endpoint.
            errors.Unavailable: the service is known, but none of it is alive.
            errors.DeadlineExceeded: no answer within ``timeout`` seconds.
            errors.Error: what the service answered.
        """
        here = context.current_or_none()
        call = self._outgoing(here, service, endpoint, body, metadata, as_self)
        call.timeout = self._time_left(here, timeout)
        _check_time(call)
        return await self.send(call, retry=retry)

    @asynccontextmanager
    async def stream(
        self,
        service: str,
        endpoint: str,
        body: bytes = b"{}",
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        as_self: bool = False,
    ) -> AsyncIterator[Stream]:
        """Open a stream with a JSON body, until the block ends; leaving it early gives it up.

        Args:
            service: whose.
            endpoint: which.
            body: the request; messages may follow it.
            metadata: beside what is inherited.
            timeout: seconds for all of the stream; without one it lasts as long as both ends.
            as_self: as of `call`.

        Raises:
            errors.Error: as `call` does; a stream is never opened twice.
        """
        here = context.current_or_none()
        left = here.remaining() if here is not None else None
        limits = [seconds for seconds in (timeout, left) if seconds is not None]
        call = self._outgoing(here, service, endpoint, body, metadata, as_self)
        call.timeout = min(limits, default=None)
        stream = await self.open(call)
        try:
            yield stream
        finally:
            await stream.close()

    async def open(self, call: Call) -> Stream:
        """Open a stream for a call as it stands: nothing is inherited. Who opens it closes it."""
        _check_time(call)
        for transport in self._transports:
            try:
                return await transport.open(call)
            except Gone:
                break
            except Unreachable:
                continue
        raise self._nobody(call)

    async def send(self, call: Call, *, retry: bool = True) -> bytes:
        """Send a call as it stands: nothing is inherited; see `call` for what it raises."""
        started = time.monotonic()
        try:
            for transport in self._transports:
                try:
                    return await transport.call(call)
                except Gone:
                    break
                except Unreachable:
                    continue
            raise self._nobody(call)
        except errors.Error as error:
            if not (retry and error.retryable and self._may_retry(call)):
                raise
            pause = random.uniform(0.5, 1.5) * RETRY_PAUSE
            if call.timeout is not None:
                call.timeout -= time.monotonic() - started + pause
                if call.timeout <= 0:
                    raise
        await asyncio.sleep(pause)
        return await self.send(call, retry=False)

    def _may_retry(self, call: Call) -> bool:
        return self._resolver is None or self._resolver.retries(call.service, call.endpoint)

    def _nobody(self, call: Call) -> errors.Error:
        service = call.service
        if self._resolver is not None and self._resolver.knows(service):
            return errors.Unavailable(service, f"no replica of {service} is alive; try again later")
        return errors.NotFound(service, f"service {service} not found; `micro services` lists them")

    def _time_left(self, here: context.Context | None, timeout: float | None) -> float:
        chosen = self._timeout if timeout is None else timeout
        left = here.remaining() if here is not None else None
        return chosen if left is None else min(left, chosen)

    def _outgoing(
        self,
        here: context.Context | None,
        service: str,
        endpoint: str,
        body: bytes,
        metadata: Mapping[str, str] | None,
        as_self: bool,
    ) -> Call:
        """A call with what it inherits from the one being handled, and a trace."""
        sent = here.outgoing() if here is not None else {}
        if here is None or here.outside or as_self or self._as_self:
            sent.pop(context.AUTHORIZATION, None)
            if self._identity is not None and (shown := self._identity()):
                sent[context.AUTHORIZATION] = shown
        elif (carried := sent.get(context.AUTHORIZATION)) and not is_token(carried):
            # A password that was meant for the service itself goes no further.
            del sent[context.AUTHORIZATION]
        if self._namespace == context.DEFAULT_NAMESPACE:
            sent.pop(context.NAMESPACE, None)
        elif self._namespace:
            sent[context.NAMESPACE] = self._namespace
        if metadata:
            sent.update(context.sendable(name, value) for name, value in metadata.items())
        if context.TRACE not in sent:
            sent[context.TRACE] = context.new_trace()
        return Call(service, endpoint, body, sent)


def is_token(header: str) -> bool:
    """Whether an Authorization shows a token; a password, say, is nothing of ours."""
    return header[: len(BEARER)].lower() in _TOKENS


def _check_time(call: Call) -> None:
    if call.timeout is not None and call.timeout <= 0:
        raise errors.DeadlineExceeded(call.service, "the caller's deadline has passed already")
