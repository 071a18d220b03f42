"""One HTTP request: its path to an endpoint, its parameters to JSON, the answer back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
from typing import Any

from microcosmos import __version__
from microcosmos.base import codec, context, errors
from microcosmos.registry import Table
from microcosmos.rpc import DEFAULT_TIMEOUT, MAX_BODY, Call, Client

from . import answer, body
from .routes import Route, Routes

log = logging.getLogger("microcosmos.gateway")

BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send a body."""

LONGEST_TIMEOUT = 300.0
"""The most seconds that a request may ask for with Micro-Timeout."""

PATIENCE = 0.25
"""Seconds after which a call that still runs is cancelled if its client has gone."""

_BODILESS = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0}
_TRACE = re.compile(r"[0-9a-f]{32}")

# Of the headers these describe the connection and the body, not the call.
_UNSENT = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "micro-timeout",
        "te",
        "timeout",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class _Titles(dict[str, str]):
    """Header names as metadata names; unsent ones are empty."""

    def __missing__(self, name: str) -> str:
        title = "" if name in _UNSENT else context.title(name)
        if len(self) < 4096:
            self[name] = title
        return title


class Gateway:
    """The gateway as an RSGI application.

    Args:
        client: carries the calls.
        table: who is alive.
        ready: False until the platform has been found; `/readyz` tells.
    """

    def __init__(self, client: Client, table: Table) -> None:
        self._client = client
        self._routes = Routes(table)
        self._titles = _Titles()
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))
        self._own = {"/": self._version, "/healthz": self._healthz, "/readyz": self._readyz}
        self.ready = False

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request; Granian's entry."""
        if scope.proto != "http":
            proto.close(400)
            return
        request = dict(scope.headers.items())
        metadata = self._metadata(request)
        try:
            route = self._routes[scope.path]
            if scope.method in _BODILESS:
                sent = body.from_query(route, scope.query_string)
            else:
                sent = await self._read(scope, proto, request, route)
            timeout = _timeout(request["micro-timeout"]) if "micro-timeout" in request else None
            call = Call(route.service, route.endpoint, sent, metadata, timeout or DEFAULT_TIMEOUT)
            answer.send(proto, request, await self._client.send(call, retry=route.retry))
        except errors.Error as error:
            if not self._answer_own(scope, proto, request):
                answer.send_error(proto, request, error, metadata)
        except Exception:
            log.exception("%s %s failed", scope.method, scope.path)
            failed = errors.InternalServerError("gateway", "the gateway failed; its log says why")
            answer.send_error(proto, request, failed, metadata)

    def _metadata(self, request: dict[str, str]) -> dict[str, str]:
        titles = self._titles
        metadata = {title: value for name, value in request.items() if (title := titles[name])}
        trace = metadata.get(context.TRACE)
        if trace is None or not _TRACE.fullmatch(trace):
            metadata[context.TRACE] = f"{self._prefix}{next(self._count):016x}"
        return metadata

    async def _read(self, scope: Any, proto: Any, request: dict[str, str], route: Route) -> bytes:
        if scope.method not in _METHODS:
            raise errors.MethodNotAllowed("gateway", f"the method {scope.method} has no meaning")
        length = request.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY:
            raise _too_large()
        try:
            content = await asyncio.wait_for(_whole(proto), BODY_TIMEOUT)
        except TimeoutError:
            detail = f"the body did not arrive within {BODY_TIMEOUT:g} s"
            raise errors.RequestTimeout("gateway", detail) from None
        kind = request.get("content-type", "")
        return body.from_body(route, scope.query_string, kind, content)

    def _answer_own(self, scope: Any, proto: Any, request: dict[str, str]) -> bool:
        """Answer what is the gateway's own: looked at last, so that calls do not pay for it."""
        if scope.method == "OPTIONS":
            answer.send_preflight(proto, request)
            return True
        if (own := self._own.get(scope.path)) is not None:
            status, content = own()
            answer.send(proto, request, codec.encode(content), status)
            return True
        if scope.path == "/favicon.ico":
            proto.response_empty(204, [])
            return True
        return False

    def _version(self) -> tuple[int, dict[str, str]]:
        return 200, {"version": __version__}

    def _healthz(self) -> tuple[int, dict[str, str]]:
        return 200, {"status": "ok"}

    def _readyz(self) -> tuple[int, dict[str, str]]:
        return (200, {"status": "ready"}) if self.ready else (503, {"status": "starting"})


async def _whole(proto: Any) -> bytes:
    """The body, refused as soon as it is over the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in proto:
        size += len(part)
        if size > MAX_BODY:
            raise _too_large()
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> errors.TooLarge:
    return errors.TooLarge("gateway", f"the body is over the limit of {MAX_BODY} bytes")


def _timeout(text: str) -> float:
    """Seconds of a duration like ``500ms``, ``5s`` or ``2m``; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not (seconds := float(found[1]) * _UNITS[found[2]]):
        raise errors.BadRequest("gateway", f"Micro-Timeout {text[:20]!r} is no duration like 5s")
    return min(seconds, LONGEST_TIMEOUT)
