"""The contract of rpc: a call, a handler, and the transports that carry one to the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from microcosmos.base import errors

MAX_BODY = 8 * 1024 * 1024
"""The largest request or answer of one call, in bytes, on every transport."""

DEFAULT_TIMEOUT = 10.0
"""Seconds that a caller waits unless it says otherwise."""


class Call(msgspec.Struct, array_like=True, gc=False):
    """One request on its way.

    Attributes:
        service: whom it is for.
        endpoint: what of it, ``Handler.Method``.
        body: JSON.
        metadata: Title-Cased names and their values.
        timeout: seconds that the caller still waits, or None.
    """

    service: str
    endpoint: str
    body: bytes
    metadata: dict[str, str]
    timeout: float | None = None


Handler = Callable[[Call], Awaitable[bytes]]
"""Answers a call with a JSON body, or raises an `errors.Error`."""

StreamHandler = Callable[[Call, AsyncIterator[bytes]], AsyncGenerator[bytes, None]]
"""Answers a call and the JSON messages that follow it by JSON messages, or raises an error."""


class Middleware(Protocol):
    """Wraps handlers by ones that do one thing more."""

    def call(self, handler: Handler) -> Handler:
        """Wrap the handler of an endpoint that answers once."""

    def stream(self, handler: StreamHandler) -> StreamHandler:
        """Wrap the handler of a stream."""


class Stream(Protocol):
    """The caller's end of a stream of JSON messages."""

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the other end is too far behind.

        Raises:
            errors.Conflict: the stream has ended.
            errors.TooLarge: the message is over `MAX_BODY`.
            errors.Error: what ended the stream.
        """

    async def end(self) -> None:
        """Say that no more messages come from here; those of the other end still do."""

    async def close(self, reason: errors.Error | None = None) -> None:
        """Give the stream up, if it has not ended: its handler is cancelled.

        Args:
            reason: what is raised where this end still reads or sends.
        """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The messages of the other end, until it ends."""

    async def __anext__(self) -> bytes:
        """The next message.

        Raises:
            StopAsyncIteration: the other end has ended.
            errors.Error: it ended by an error, or was lost.
        """


class Transport(Protocol):
    """Carries calls to where a service answers."""

    async def open(self, call: Call) -> Stream:
        """Open a stream; the call's timeout is for all of it, and None is none.

        Raises:
            Unreachable: the service cannot be called here now, and nothing was sent.
            errors.Error: what the callee answered, or what became of the call on its way.
        """

    async def call(self, call: Call) -> bytes:
        """Carry one call and its answer.

        Raises:
            Unreachable: the service cannot be called here now, and the call was not sent; another
                transport may carry it.
            errors.Error: what the callee answered, or what became of the call on its way.
        """


class Resolver(Protocol):
    """Knows where services are, from memory; `registry.Table` is one."""

    def lanes(self, service: str) -> list[str]:
        """The sockets of the living replicas on this host."""

    def subject(self, service: str, endpoint: str) -> str:
        """The NATS subject of an endpoint."""

    def elsewhere(self, service: str) -> bool:
        """Whether replicas may be alive that no socket of this host leads to."""

    def knows(self, service: str) -> bool:
        """Whether the service is registered at all."""

    def lost(self, service: str) -> bool:
        """Whether the service is known, and every replica of it has died."""

    def retries(self, service: str, endpoint: str) -> bool:
        """Whether an endpoint may be called again after a passing failure."""


class Unreachable(Exception):
    """A transport could not even send a call; nothing has happened, so another may try."""


class Gone(Unreachable):
    """The same, but no other transport leads further: all that there is of the service is dead.

    NATS learns of a death by itself, and perhaps later: until then it hands calls to the dead, and
    their callers would wait for nothing.
    """


def check_size(call: Call) -> None:
    """Refuse a request over the limit before it is sent.

    Raises:
        errors.TooLarge: the body is over `MAX_BODY`.
    """
    if len(call.body) > MAX_BODY:
        raise too_large(call, "request", len(call.body))


def too_large(call: Call, what: str, size: int, limit: int = MAX_BODY) -> errors.TooLarge:
    """The 413 of a request or an answer over a limit."""
    detail = f"the {what} has {size} bytes; the limit of one call is {limit}"
    return errors.TooLarge(call.service, detail)


def late(call: Call, timeout: float | None = None) -> errors.DeadlineExceeded:
    """The 504 of a call that was not answered in time, its own unless another is given."""
    limit = call.timeout if timeout is None else timeout
    detail = f"{call.service} {call.endpoint} did not answer within {limit:g} s"
    return errors.DeadlineExceeded(call.service, detail)
