"""A request that a function wants to make: what of it can be sent, and how."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from microcosmos.base import errors

from .addresses import canonical
from .headers import BAD_VALUE, NAME, OURS, Headers, size_of
from .hosts import Origin

MAX_URL = 16 * 1024
"""The longest URL, in characters."""

MAX_HEADERS = 64 * 1024
"""The most bytes of a request's headers, and of a response's."""

FETCH = "functions.fetch"
"""Where errors come from."""

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_FORBIDDEN_METHODS = ("CONNECT", "TRACE", "TRACK")
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


class Outgoing(NamedTuple):
    """A sub-request.

    Attributes:
        url: absolute.
        method: in capitals.
        headers: pairs.
        body: whole, or as it comes.
        redirect: ``follow``, ``manual`` or ``error``.
    """

    url: str
    method: str = "GET"
    headers: Iterable[tuple[str, str]] = ()
    body: bytes | AsyncIterator[bytes] = b""
    redirect: str = "follow"


class Url(NamedTuple):
    """A URL that requests can go to."""

    text: str
    origin: Origin
    target: str


def checked_method(request: Outgoing) -> str:
    """A method that can be fetched with.

    Raises:
        errors.BadRequest: it cannot, or not like this.
    """
    method = request.method
    if not _METHOD.fullmatch(method) or method.upper() in _FORBIDDEN_METHODS:
        raise errors.BadRequest(FETCH, f"{method!r:.40} is no method that can be fetched with")
    if method in ("GET", "HEAD") and request.body:
        raise errors.BadRequest(FETCH, f"a {method} has no body")
    if request.redirect not in ("follow", "manual", "error"):
        raise errors.BadRequest(FETCH, "redirect is 'follow', 'manual' or 'error'")
    return method


def checked_url(text: str) -> Url:
    """A URL that can be fetched.

    Raises:
        errors.BadRequest: it is none.
    """
    if len(text) > MAX_URL:
        raise errors.BadRequest(FETCH, f"a URL of {len(text)} characters is over {MAX_URL}")
    try:
        # Blanks and control characters were no part of a URL that a browser has read.
        parts = urlsplit("".join(quote(one) if ord(one) <= 32 else one for one in text.strip()))
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
        host = canonical(host.lower())
    except ValueError:
        raise errors.BadRequest(FETCH, f"{text!r:.200} is no URL") from None
    if scheme not in ("http", "https"):
        raise errors.BadRequest(FETCH, f"only http and https can be fetched, not {text!r:.200}")
    if not host or len(host) > 253 or re.search(r"[\x00-\x20/?#@\\%]", host):
        raise errors.BadRequest(FETCH, f"{text!r:.200} names no host")
    if parts.username is not None or parts.password is not None:
        raise errors.BadRequest(FETCH, "a URL with a user or password in it cannot be fetched")
    if port is None:
        port = 443 if scheme == "https" else 80
    path = quote(parts.path, safe=_URL_SAFE) or "/"
    target = f"{path}?{quote(parts.query, safe=_URL_SAFE)}" if parts.query else path
    origin = Origin(scheme, host, port)
    return Url(f"{scheme}://{origin}{target}", origin, target)


def checked_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that go along, names in small letters.

    Raises:
        errors.BadRequest: one cannot be sent, or they are too many.
    """
    kept: Headers = []
    for name, value in headers:
        if not NAME.fullmatch(name):
            raise errors.BadRequest(FETCH, f"{name!r:.80} is no name of a header")
        if BAD_VALUE.search(value):
            raise errors.BadRequest(FETCH, f"the value of header {name} cannot be sent")
        if (lowered := name.lower()) not in OURS:
            kept.append((lowered, value.strip()))
    return sized(kept)


def sized(headers: Headers) -> Headers:
    """The headers, if they are not too many.

    Raises:
        errors.BadRequest: they are.
    """
    if (size := size_of(headers)) > MAX_HEADERS:
        raise errors.BadRequest(FETCH, f"headers of {size} bytes are over {MAX_HEADERS}")
    return headers


def defaults(given: set[str]) -> list[tuple[bytes, bytes]]:
    """Headers that nobody gave and everybody sends."""
    usual = {"accept": b"*/*", "user-agent": b"microcosmos"}
    told = [(name.encode(), value) for name, value in usual.items() if name not in given]
    return [*told, (b"accept-encoding", b"gzip, deflate")]


def framing(method: str, body: bytes | AsyncIterator[bytes]) -> list[tuple[bytes, bytes]]:
    """How the other end knows where the body ends."""
    if not isinstance(body, bytes):
        return [(b"transfer-encoding", b"chunked")]
    if body or method in ("POST", "PUT", "PATCH"):
        return [(b"content-length", b"%d" % len(body))]
    return []
