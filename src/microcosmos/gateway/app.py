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
from microcosmos.rpc import DEFAULT_TIMEOUT, Call, Client

from . import answer, body
from .patience import PATIENCE, Patience
from .receive import discard, receive
from .routes import Route, Routes

log = logging.getLogger("microcosmos.gateway")

BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send a body."""

LONGEST_TIMEOUT = 300.0
"""The most seconds that a request may ask for with Micro-Timeout."""

_BODILESS = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0}
_TRACE = re.compile(r"[0-9a-f]{32}")
_FAVICON = "/favicon.ico"

# Names are remembered, so nobody may fill the memory with them; no header has a longer one.
_LONGEST_NAME = 128
_NAMES = 4096

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
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
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
        if len(name) > _LONGEST_NAME:
            return ""
        title = "" if name in _UNSENT else context.title(name)
        if len(self) < _NAMES:
            self[name] = title
        return title


class Gateway:
    """The gateway as an RSGI application.

    Args:
        client: carries the calls.
        table: who is alive.
        body_timeout: seconds that a client may take to send a body.
        patience: seconds after which a call is cancelled if its client has gone.

    Attributes:
        ready: False until the platform has been found; `/readyz` tells.
    """

    def __init__(
        self,
        client: Client,
        table: Table,
        *,
        body_timeout: float = BODY_TIMEOUT,
        patience: float = PATIENCE,
    ) -> None:
        self._client = client
        self._body_timeout = body_timeout
        self._patience = Patience(patience)
        self._titles = _Titles()
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))
        self._own = {"/": self._version, "/healthz": self._healthz, "/readyz": self._readyz}
        self._routes = Routes(table, reserved=(*self._own, _FAVICON))
        self.ready = False

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request; Granian's entry."""
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
            self._patience.begin(proto)
            try:
                reply = await self._client.send(call)
            finally:
                self._patience.end(proto)
            answer.send(proto, request, reply)
        except errors.Error as error:
            if not self._answer_own(scope, proto, request):
                answer.send_error(proto, request, error, metadata)
            if scope.method not in _BODILESS and error.code != 408:
                await discard(proto, request)
        except asyncio.CancelledError:
            # The client has gone, or the time to drain is over; this task ends here either way.
            stopping = errors.Unavailable("gateway", "the gateway stopped before the answer came")
            answer.send_error(proto, request, stopping, metadata)
        except Exception:
            log.exception("%s %s failed", scope.method, scope.path)
            failed = errors.InternalServerError("gateway", "the gateway failed; its log says why")
            answer.send_error(proto, request, failed, metadata)

    def _metadata(self, request: dict[str, str]) -> dict[str, str]:
        titles = self._titles
        metadata = {title: value for name, value in request.items() if (title := titles[name])}
        if context.TRACE not in metadata or not _TRACE.fullmatch(metadata[context.TRACE]):
            metadata[context.TRACE] = f"{self._prefix}{next(self._count):016x}"
        return metadata

    async def _read(self, scope: Any, proto: Any, request: dict[str, str], route: Route) -> bytes:
        if scope.method not in _METHODS:
            raise errors.MethodNotAllowed("gateway", f"the method {scope.method} has no meaning")
        content = await receive(proto, request, self._body_timeout)
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
        if scope.path == _FAVICON:
            proto.response_empty(204, [])
            return True
        return False

    def _version(self) -> tuple[int, dict[str, str]]:
        return 200, {"version": __version__}

    def _healthz(self) -> tuple[int, dict[str, str]]:
        return 200, {"status": "ok"}

    def _readyz(self) -> tuple[int, dict[str, str]]:
        return (200, {"status": "ready"}) if self.ready else (503, {"status": "starting"})


def _timeout(text: str) -> float:
    """Seconds of a duration like ``500ms``, ``5s`` or ``2m``; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not (seconds := float(found[1]) * _UNITS[found[2]]):
        raise errors.BadRequest("gateway", f"Micro-Timeout {text[:20]!r} is no duration like 5s")
    return min(seconds, LONGEST_TIMEOUT)
