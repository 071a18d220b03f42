"""The access log: one line a request, without its secrets."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal
from urllib.parse import unquote_plus

import msgspec

from microcosmos.base import context

from .exchange import Exchange, Header
from .handing import Note, begin_of
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


class Line(msgspec.Struct, gc=False):
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
        self._begin = begin_of(app)
        self._write = write
        self._encode = _json if form == "json" else _common
        self._client = client
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))

    def begin(self, scope: Any, proto: Any, _: Note | None) -> Any:
        """Begin one request; its line is written when it has been answered."""
        trace = scope.headers.get(_TRACE_NAME)
        if trace is None or not _TRACE.fullmatch(trace):
            trace = f"{self._prefix}{next(self._count):016x}"
        seen = _Seen(proto, scope, trace, self.note)
        coming = self._begin(scope, seen, seen)
        return None if coming is None else _answered(coming, seen)

    def note(self, seen: _Seen) -> None:
        """Write the line of a request that has been answered."""
        scope = seen.scope
        headers, method, query = scope.headers, scope.method, scope.query_string
        line = Line(
            _stamp(int(seen.came * 1000)),
            self._client(scope),
            method,
            scope.path[:LONGEST],
            hide(query)[:LONGEST] if query else "",
            f"HTTP/{scope.http_version}",
            seen.status,
            0 if method == "HEAD" else seen.size,
            int((time.perf_counter() - seen.began) * 1e6) / 1e3,
            headers.get("user-agent", "")[:LONGEST],
            request_id(headers),
            seen.trace,
        )
        self._write(self._encode(line, seen.came))


async def _answered(coming: Awaitable[None], seen: _Seen) -> None:
    try:
        await coming
    finally:
        seen.over()


def hide(query: str) -> str:
    """A query string without the values of names that sound like secrets."""
    if "%" not in query and not _LIKE_SECRETS.search(query):
        return query
    return "".join(map(_hidden, re.split(r"([&;])", query)))


def _hidden(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}={SECRET}" if equals and value and _HIDDEN.search(unquote_plus(name)) else part


class _Seen(Exchange):
    """An exchange that remembers what was answered; the note of its request, too."""

    __slots__ = ("_note", "began", "came", "scope", "size", "status", "trace")

    def __init__(self, inner: Any, scope: Any, trace: str, note: Callable[[_Seen], None]) -> None:
        self._inner = inner
        self._note = note
        self.scope = scope
        self.trace = trace
        # Granian answers so when the application does not.
        self.status = 500
        self.size = 0
        self.came = time.time()
        self.began = time.perf_counter()

    def over(self) -> None:
        """It has been answered."""
        self._note(self)

    def response_bytes(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        # Without a step between: most answers are such.
        self.status = status
        self.size += len(body)
        self._inner.response_bytes(status, headers, body)

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


@functools.lru_cache(maxsize=4)
def _stamp(milliseconds: int) -> str:
    seconds, parts = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{parts:03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_encode = msgspec.json.Encoder().encode


def _json(line: Line, came: float) -> bytes:
    encoded = _encode(line)
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
