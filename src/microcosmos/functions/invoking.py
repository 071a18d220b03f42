"""Invoking: a request to a function by way of the gateway, for who has no other way to it."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from microcosmos.base import context, errors
from microcosmos.base.home import Home

from .requests import NAME, Invoked, InvokeRequest
from .showing import path_of

if TYPE_CHECKING:
    import httpcore

LARGEST = 6 * 1024 * 1024
"""The most bytes of an answer that an invocation gives back."""

LONGEST = 60.0
"""Seconds that an invocation may take, unless its caller has less."""

METHOD = re.compile(r"[A-Z]{1,20}")
"""What may be the method of a request."""

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods of requests that may be sent twice."""

OWN = frozenset(
    {
        *("authorization", "connection", "content-length", "expect", "host", "keep-alive"),
        *("micro-namespace", "micro-trace", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Headers of the connection, not of the request; and what is said here."""


class ByGateway:
    """Sends requests to the gateway of a home, with the token of whoever asks for them.

    Args:
        home: its server has the gateway.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    async def __call__(self, request: InvokeRequest) -> Invoked:
        """What a function answers.

        Raises:
            errors.BadRequest: the request could not be sent.
            errors.Unavailable: the gateway does not answer.
            errors.DeadlineExceeded: it does not answer in time.
            errors.TooLarge: it answers more than `LARGEST`.
        """
        # Two processes would load it at each start, and most never invoke anything.
        import httpcore

        info = self._home.server_info()
        if info is None:
            raise errors.Unavailable(NAME, "the gateway is not there yet; try again")
        left = context.current().remaining()
        try:
            async with httpcore.AsyncConnectionPool(ssl_context=_unverified()) as pool:
                return await _sent(pool, info.api, request, min(left or LONGEST, LONGEST))
        except httpcore.TimeoutException:
            raise errors.DeadlineExceeded(NAME, f"{request.name} did not answer in time") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
            detail = f"the gateway does not answer: {str(exc) or type(exc).__name__}"
            raise errors.Unavailable(NAME, detail) from None


async def _sent(
    pool: httpcore.AsyncConnectionPool, api: str, request: InvokeRequest, timeout: float
) -> Invoked:
    method = request.method.upper()
    if not METHOD.fullmatch(method):
        raise errors.BadRequest(NAME, f"method: {request.method!r:.40} is none")
    limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
    async with pool.stream(
        method,
        f"{api}{target_of(request)}",
        headers=_headers(request),
        content=request.body,
        extensions={"timeout": limits},
    ) as response:
        body = bytearray()
        async for part in response.aiter_stream():
            body += part
            if len(body) > LARGEST:
                limit = LARGEST // (1024 * 1024)
                raise errors.TooLarge(NAME, f"the answer has more than {limit} MiB")
        headers = [
            (name.decode("latin-1"), text.decode("latin-1")) for name, text in response.headers
        ]
        return Invoked(status=response.status, headers=headers, body=bytes(body))


def target_of(request: InvokeRequest) -> str:
    """The path and the query string of a request."""
    asked = urlsplit(f"//x/{request.path.lstrip('/')}")
    path = path_of(request.name)
    if asked.path != "/":
        path += quote(asked.path, safe="/%:@!$&'()*+,;=~-._")
    return path + (f"?{quote(asked.query, safe='/%:@!$&()*+,;=~-._?[]')}" if asked.query else "")


def _headers(request: InvokeRequest) -> list[tuple[bytes, bytes]]:
    here = context.current()
    found = []
    for name, value in request.headers:
        title, text = context.sendable(name, value)
        if title.lower() not in OWN:
            found.append((title, text))
    found.append((context.NAMESPACE, here.namespace))
    if here.trace:
        found.append((context.TRACE, here.trace))
    if shown := here.metadata.get(context.AUTHORIZATION):
        found.append((context.AUTHORIZATION, shown))
    return [(name.encode("ascii"), text.encode()) for name, text in found]


def _unverified() -> ssl.SSLContext:
    """For our own gateway on this host, whose certificate is made out to other names."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made
