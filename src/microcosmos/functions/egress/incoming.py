"""The answer to a sub-request: where it leads, its headers, and its body unpacked."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urljoin

import httpcore

from microcosmos.base import errors

from .headers import Headers, size_of
from .hosts import Origin
from .outgoing import FETCH, MAX_HEADERS, Url, checked_url

CONNECT = 10.0
"""Seconds to look a host up and connect to it."""

READ = 60.0
"""Seconds of silence of a server after which it is given up."""

_SOON = 0.5
_PIECE = 64 * 1024
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BODILESS = frozenset((204, 205, 304))
_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
_CODINGS = ("gzip", "x-gzip", "deflate")


class Incoming(NamedTuple):
    """The answer to one.

    Attributes:
        status: its code.
        headers: pairs, names in small letters.
        body: its parts; what was compressed is not any more.
        url: where it came from in the end.
    """

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    url: str


def redirected(response: httpcore.Response, url: Url) -> Url | None:
    """Where a response sends its reader, if it does."""
    if response.status not in _REDIRECTS:
        return None
    for name, value in response.headers:
        if name.lower() == b"location":
            where = urljoin(url.text, value.decode("latin-1"))
            try:
                return checked_url(where)
            except errors.BadRequest as error:
                said = f"{url.origin} redirects to where nobody can follow: {error.detail}"
                raise errors.BadGateway(FETCH, said) from None
    return None


async def drained(response: httpcore.Response) -> None:
    """Read a body that nobody wants, unless it is long, so that its connection can be kept."""
    size = 0
    with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(_SOON):
            async for part in response.aiter_stream():
                size += len(part)
                if size > _PIECE:
                    return


def incoming(response: httpcore.Response, method: str, url: Url) -> Incoming:
    """What a response is for who asked.

    Raises:
        errors.BadGateway: its headers are too many.
    """
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in response.headers
    ]
    if (size := size_of(headers)) > MAX_HEADERS:
        detail = f"{url.origin} answers with headers of {size} bytes, over {MAX_HEADERS}"
        raise errors.BadGateway(FETCH, detail)
    kept = [pair for pair in headers if pair[0] not in _HOP]
    coding = ", ".join(value for name, value in kept if name == "content-encoding").lower()
    parts = _parts(response)
    bodiless = method == "HEAD" or response.status in _BODILESS
    if coding.strip() in _CODINGS and not bodiless:
        parts = _inflated(parts, coding.strip(), url.origin)
        kept = [pair for pair in kept if pair[0] not in ("content-encoding", "content-length")]
    return Incoming(response.status, kept, parts, url.text)


async def _parts(response: httpcore.Response) -> AsyncIterator[bytes]:
    with told():
        async for part in response.aiter_stream():
            yield part


async def _inflated(
    parts: AsyncIterator[bytes], coding: str, origin: Origin
) -> AsyncIterator[bytes]:
    """What was compressed, a piece at a time, however much it becomes."""
    inflate: Any = None
    async for part in parts:
        if inflate is None and part:
            inflate = zlib.decompressobj(_window(part, coding))
        data = part
        while data:
            try:
                piece = inflate.decompress(data, _PIECE)
            except zlib.error:
                detail = f"{origin} says that its answer is {coding}, and it is not"
                raise errors.BadGateway(FETCH, detail) from None
            data = inflate.unconsumed_tail
            if piece:
                yield piece
            if inflate.eof and inflate.unused_data and coding != "deflate":
                # gzip may have several members, one after another.
                data = inflate.unused_data
                inflate = zlib.decompressobj(_window(data, coding))
    if inflate is not None and not inflate.eof:
        raise errors.BadGateway(FETCH, f"the answer of {origin} is cut")


def _window(data: bytes, coding: str) -> int:
    if coding != "deflate":
        return 16 + zlib.MAX_WBITS
    # It should have a header of its own, and some send it without.
    return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS


@contextlib.contextmanager
def told() -> Any:
    """Errors of httpcore, told as ours."""
    try:
        yield
    except httpcore.ConnectTimeout:
        raise errors.DeadlineExceeded(
            FETCH, f"nobody took the connection in {CONNECT:g} s"
        ) from None
    except httpcore.TimeoutException:
        raise errors.DeadlineExceeded(FETCH, f"the server said nothing for {READ:g} s") from None
    except httpcore.ConnectError as exc:
        raise errors.BadGateway(FETCH, f"cannot connect: {_reason(exc)}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
        raise errors.BadGateway(FETCH, f"the connection failed: {_reason(exc)}") from None
    except TimeoutError as exc:
        if isinstance(exc, errors.Error):
            raise
        raise errors.DeadlineExceeded(
            FETCH, f"nobody took the connection in {CONNECT:g} s"
        ) from None


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
