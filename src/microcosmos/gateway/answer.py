"""Answers: JSON, errors, CORS, compression."""

from __future__ import annotations

import math
import zlib
from typing import Any

from microcosmos.base import context, errors

from .encodings import accepts

Header = tuple[str, str]

JSON: Header = ("content-type", "application/json")
_PLAIN = [JSON]
COMPRESS_FROM = 1024
"""Answers of fewer bytes are not worth compressing."""

_ALLOW_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# Any header is metadata, so any may be sent; the star does not stand for Authorization.
_ALLOW_HEADERS = (
    "*, Accept, Authorization, Content-Type, Micro-Namespace, Micro-Timeout, Micro-Trace, "
    "X-Requested-With"
)


def headers_of(request: dict[str, str]) -> list[Header]:
    """The headers that every answer to this request has."""
    answer = [JSON]
    if origin := request.get("origin"):
        answer.append(("access-control-allow-origin", origin))
        answer.append(("access-control-expose-headers", "Micro-Trace, Retry-After"))
        answer.append(("vary", "Origin"))
    return answer


def send(proto: Any, request: dict[str, str], body: bytes, status: int = 200) -> None:
    """Send a JSON answer, compressed where it helps and is accepted."""
    if len(body) < COMPRESS_FROM and "origin" not in request:
        proto.response_bytes(status, _PLAIN, body)
        return
    answer = headers_of(request)
    if len(body) >= COMPRESS_FROM:
        answer.append(("vary", "Accept-Encoding"))
        if accepts(request.get("accept-encoding", ""), "gzip"):
            packer = zlib.compressobj(level=5, wbits=31)
            body = packer.compress(body) + packer.flush()
            answer.append(("content-encoding", "gzip"))
    proto.response_bytes(status, answer, body)


def send_error(
    proto: Any, request: dict[str, str], error: errors.Error, metadata: dict[str, str]
) -> None:
    """Send an error's JSON under its own code, with the trace that its logs have."""
    if not 400 <= error.code <= 599:
        # A handler made it up; the status line and the body say the same.
        error = errors.InternalServerError(error.id, error.detail)
    answer = headers_of(request)
    if trace := metadata.get(context.TRACE):
        answer.append(("micro-trace", trace))
    if error.code in (429, 503):
        answer.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
    if error.code == 401:
        answer.append(("www-authenticate", "Bearer"))
    if error.code == 405:
        answer.append(("allow", getattr(error, "allowed", _ALLOW_METHODS)))
    proto.response_bytes(error.code, answer, error.to_http())


def send_preflight(proto: Any, request: dict[str, str]) -> None:
    """Answer an OPTIONS request: what browsers may send."""
    answer: list[Header] = [
        ("access-control-allow-origin", request.get("origin", "*")),
        ("access-control-allow-methods", _ALLOW_METHODS),
        ("access-control-allow-headers", _ALLOW_HEADERS),
        ("access-control-max-age", "600"),
        ("allow", _ALLOW_METHODS),
        ("vary", "Origin"),
    ]
    proto.response_empty(204, answer)
