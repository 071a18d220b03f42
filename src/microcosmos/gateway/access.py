"""The access log: one line a request, without its secrets."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal
from urllib.parse import unquote_plus

import msgspec

from microcosmos.base import context

from .exchange import Exchange, Header
from .front.request import Changed
from .request_id import request_id

Format = Literal["json", "common"]

LONGEST = 1024
"""The most characters of a path, a query string or a user agent that are logged."""

SECRET = "[secret]"

_HIDDEN = re.compile(
    r"token|secret|passw|passphrase|pwd|auth(?!or)|api[-_.]?key|(access|private)[-_.]?key"
    r"|sig(nature)?$|session|credential|jwt|otp$|^code$|^pin$",
    re.IGNORECASE,
)
# Finds whatever the one above would find, in a whole query string at once.
_LIKE_SECRETS = re.compile(
    r"token|secret|pass|pwd|auth|key|sig|session|credential|jwt|otp|code|pin", re.IGNORECASE
)
_TRACE = re.compile(r"[0-9a-f]{32}")
_TRACE_NAME = context.TRACE.lower()
_LATE = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\\u2028\u2029]')


class Line(msgspec.Struct):
    """What is known of one request.

    Attributes:
        time: when it came, UTC.
        client: the address it came from.
        method: as it was sent.
        path: decoded.
        query: its secrets hidden.
        protocol: like ``HTTP/1.1``.
        status: of the answer; 101 of a WebSocket.
        bytes: of the answer's body, before TLS and chunking.
        duration_ms: until the answer was handed on, or its stream ended.
        agent: its User-Agent.
        request_id: its X-Request-Id.
        trace: what `micro logs --trace` finds.
    """

    time: str
    client: str
    method: str
    path: str
    query: str
    protocol: str
    status: int
    bytes: int
    duration_ms: float
    agent: str
    request_id: str
    trace: str


class AccessLog:
    """An RSGI application that writes a line for each request of another.

    Args:
        app: the application.
        write: takes a line, with its end; it must not wait.
        form: ``json``, or ``common``: as other servers write it, with what they lack at the end.
        client: gives the address of a request's client.
    """

    def __init__(
        self,
        app: Any,
        write: Callable[[bytes], None],
        form: Format,
        client: Callable[[Any], str],
    ) -> None:
        self._answer = app.__rsgi__
        self._write = write
        self._encode = _json if form == "json" else _common
        self._client = client
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        came, began = time.time(), time.perf_counter()
        headers = scope.headers
        trace = headers.get(_TRACE_NAME, "")
        if not _TRACE.fullmatch(trace):
            trace = f"{self._prefix}{next(self._count):016x}"
            # The last one wins over one that is none.
            scope = Changed(scope, [*headers.items(), (_TRACE_NAME, trace)])
        seen = _Seen(proto)
        try:
            await self._answer(scope, seen)
        finally:
            line = Line(
                time=_stamp(came),
                client=self._client(scope),
                method=scope.method,
                path=scope.path[:LONGEST],
                query=hide(scope.query_string)[:LONGEST],
                protocol=f"HTTP/{scope.http_version}",
                status=seen.status,
                bytes=0 if scope.method == "HEAD" else seen.size,
                duration_ms=round((time.perf_counter() - began) * 1000, 3),
                agent=headers.get("user-agent", "")[:LONGEST],
                request_id=request_id(headers),
                trace=trace,
            )
            self._write(self._encode(line, came))


def hide(query: str) -> str:
    """A query string without the values of names that sound like secrets."""
    if "%" not in query and not _LIKE_SECRETS.search(query):
        return query
    return "".join(map(_hidden, re.split(r"([&;])", query)))


def _hidden(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}={SECRET}" if equals and value and _HIDDEN.search(unquote_plus(name)) else part


class _Seen(Exchange):
    """An exchange that remembers what was answered."""

    # Granian answers so when the application does not.
    status = 500
    size = 0

    def answering(self, status: int, headers: Sequence[Header]) -> list[Header]:
        self.status = status
        return headers if isinstance(headers, list) else list(headers)

    def body(self, size: int) -> None:
        self.size += size

    def response_file(self, status: int, headers: Sequence[Header], file: str) -> None:
        super().response_file(status, headers, file)
        try:
            self.size = os.stat(file).st_size  # noqa: PTH116 - no object needed
        except OSError:
            self.status = 404  # what Granian makes of it

    def response_stream(self, status: int, headers: Sequence[Header]) -> Any:
        return _SeenStream(super().response_stream(status, headers), self)

    def accept(self) -> Any:
        self.status = 101
        return self._inner.accept()

    def close(self, status: int | None = None) -> Any:
        if status is not None and self.status != 101:
            self.status = status
        return self._inner.close(status)


class _SeenStream:
    """A stream of an answer, its bytes counted."""

    def __init__(self, inner: Any, seen: _Seen) -> None:
        self._inner = inner
        self._seen = seen

    def send_bytes(self, data: bytes) -> Any:
        self._seen.size += len(data)
        return self._inner.send_bytes(data)

    def send_str(self, data: str) -> Any:
        self._seen.size += len(data.encode())
        return self._inner.send_str(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _stamp(came: float) -> str:
    seconds, parts = divmod(int(came * 1000), 1000)
    return f"{_second(seconds)}.{parts:03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _json(line: Line, came: float) -> bytes:
    encoded = msgspec.json.encode(line)
    if not encoded.isascii() or b"\x7f" in encoded:
        # JSON lets these stand; readers of lines and terminals do not.
        encoded = _LATE.sub(_escaped, encoded.decode()).encode()
    return encoded + b"\n"


def _common(line: Line, came: float) -> bytes:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(came))
    target = f"{line.path}?{line.query}" if line.query else line.path
    text = (
        f'{line.client} - - [{when}] "{_safe(line.method)} {_safe(target)} {line.protocol}" '
        f'{line.status} {line.bytes} "-" "{_safe(line.agent) or "-"}" '
        f'{line.duration_ms} "{line.request_id or "-"}" {line.trace}\n'
    )
    return text.encode()


def _safe(text: str) -> str:
    """A text as it may stand between quotes on one line."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
