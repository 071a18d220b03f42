"""The bytes of a request's body: whole or refused, within limits of size and time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import errors
from microcosmos.rpc import MAX_BODY

_FAILED = (RSGIProtocolClosed, RSGIProtocolError)

# What ends with a body that broke off is seen to have ended within a fraction of a millisecond.
_RESET = 0.05

LINGER = 5.0
"""Seconds that the rest of a refused body is read, so that its sender gets to see the answer."""


async def receive(proto: Any, request: dict[str, str], timeout: float) -> bytes:
    """The whole body.

    Raises:
        errors.BadRequest: it is compressed, broke off, or its chunks are malformed.
        errors.RequestTimeout: it took more than ``timeout`` seconds.
        errors.TooLarge: it has more than `MAX_BODY` bytes, or says so.
    """
    if "content-encoding" in request:
        raise errors.BadRequest("gateway", "a body is taken uncompressed: no Content-Encoding")
    try:
        async with asyncio.timeout(timeout):
            if "transfer-encoding" in request:
                return await _chunked(proto)
            # HTTP/2 needs neither header: what tells no length may have any.
            if "content-length" not in request:
                return await _chunked(proto, resets=True)
            # Granian has refused what is no plain number, and reads no more than it says.
            if int(request.get("content-length", 0)) > MAX_BODY:
                raise _too_large()
            whole: bytes = await proto()
            return whole
    except TimeoutError:
        detail = f"the body did not arrive within {timeout:g} s"
        raise errors.RequestTimeout("gateway", detail) from None
    except _FAILED:
        raise _broken() from None


async def _chunked(proto: Any, *, resets: bool = False) -> bytes:
    """A body of unknown size, refused as soon as it is over the limit.

    Args:
        proto: gives its parts.
        resets: whether a body that breaks off ends its stream too, as of HTTP/2.
    """
    parts: list[bytes] = []
    size = ends = 0
    async for part in proto:
        size += len(part)
        if size > MAX_BODY:
            raise _too_large()
        parts.append(part)
        ends += not part
    # Granian ends a body with an empty part, and has another where it broke off. So has one with
    # trailers, which nobody uses: what cannot be told from a broken body is one.
    # In HTTP/2 the last frame of a whole one may be empty as well.
    if ends > 1 and not (resets and await _stands(proto)):
        raise _broken()
    return b"".join(parts)


async def _stands(proto: Any) -> bool:
    """Whether a stream is still open after its body."""
    try:
        await asyncio.wait_for(proto.client_disconnect(), _RESET)
    except TimeoutError:
        return True
    return False


async def discard(proto: Any, request: dict[str, str]) -> None:
    """Read what is left of a body that was refused, for a while.

    A connection that is closed on a client that still sends is reset, and the answer is lost on
    its way. Who asked before sending has its answer, and sends nothing.
    """
    if "expect" in request:
        return
    with contextlib.suppress(*_FAILED):
        aiter(proto)  # refused when the body is being read already, and then this goes on
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(LINGER):
            while True:
                await anext(proto)


def _too_large() -> errors.TooLarge:
    return errors.TooLarge("gateway", f"the body is over the limit of {MAX_BODY} bytes")


def _broken() -> errors.BadRequest:
    return errors.BadRequest("gateway", "the body broke off, or its chunks are malformed")
