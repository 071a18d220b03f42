"""One HTTP request: its path to an endpoint, its parameters to JSON, the answer back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import re
from collections.abc import Awaitable, Iterable
from typing import Any

from microcosmos import __version__
from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.base import codec, context, errors
from microcosmos.registry import Table
from microcosmos.rpc import DEFAULT_TIMEOUT, Call, Client
from microcosmos.rpc.client import is_token
from microcosmos.rpc.http import WEBSOCKET, encode_head

from . import answer, body, metrics
from .asyncapi import site as asyncapi
from .doorman import HEALTH
from .front.addresses import canonical
from .functions.door import Behind, Door, Functions
from .grpcweb import GrpcWeb
from .handing import Note
from .openapi import site as openapi
from .patience import PATIENCE, Patience
from .raw.forward import forward, request_head
from .raw.paths import RawPaths
from .receive import discard, receive
from .routes import AUTH, NoRoute, Route, Routes
from .streams import ndjson
from .streams.beats import EVERY
from .streams.origins import Origins
from .streams.streams import LAST, MAX_STREAMS, Streams, asked, form_of

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

JWKS = "/.well-known/jwks.json"
"""Where the public keys are that tokens are verified by (RFC 7517)."""

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
        "micro-client-address",
        "micro-timeout",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
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
        grpc_web: answers gRPC-Web, where there is a proxy.
        access: who may call; services of ours ask for themselves, but others cannot. None lets
            everybody do everything.
        namespace: whose services the table knows.
        origins: from which pages WebSockets are let in, beside those of the gateway itself.
        max_streams: how many streams at once.
        beat: seconds between signs of life on streams.
        functions: which functions there are, and how they are reached; None is that there are none.

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
        grpc_web: GrpcWeb | None = None,
        access: Access | None = None,
        namespace: str = context.DEFAULT_NAMESPACE,
        origins: Iterable[str] = (),
        max_streams: int = MAX_STREAMS,
        beat: float = EVERY,
        functions: Functions | None = None,
    ) -> None:
        self._client = client
        self._access = access
        self._namespace = namespace
        self._grpc_web = grpc_web
        self._body_timeout = body_timeout
        self._patience = Patience(patience)
        self._titles = _Titles()
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))
        self._own = {
            "/": self._version,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            JWKS: self._jwks,
        }
        self._openapi = openapi.OpenApi(client, table, access, namespace)
        self._asyncapi = asyncapi.AsyncApi(client, table, namespace)
        documents = (openapi.PAGE, openapi.DOCUMENT, asyncapi.PAGE, asyncapi.DOCUMENT)
        reserved = (*self._own, _FAVICON, metrics.PATH, *documents)
        self._routes = Routes(table, reserved=reserved)
        self._raw = RawPaths(table)
        self._streams = Streams(
            client, self._patience, origins=Origins(origins), most=max_streams, every=beat
        )
        self._door: Door | None = None
        # None while there are no functions, so that who has none pays for a look at it.
        self._functions: Door | None = None
        if functions is not None:
            behind = Behind(
                access, namespace, self._patience, self._streams.room, body_timeout, _timeout
            )
            self._door = Door(functions, behind, self._choose)
            self._choose()
        self.ready = False

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request; the entry of who waits for that."""
        functions = self._functions
        if (
            functions is not None
            and (family := functions.family(scope.path)) is not None
            and scope.proto != "ws"
            and await functions.answer(family, scope, proto, None)
        ):
            return
        await self._answer(scope, proto, None)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Awaitable[None] | None:
        """Begin one request."""
        functions = self._functions
        if (
            functions is not None
            and (family := functions.family(scope.path)) is not None
            and scope.proto != "ws"
        ):
            return functions.begin(family, scope, proto, note, self._answer)
        return self._answer(scope, proto, note)

    def give_up(self) -> None:
        """Cancel what nobody has the time to wait for any more."""
        self._patience.give_up()

    async def _answer(self, scope: Any, proto: Any, note: Note | None) -> None:
        request = dict(scope.headers.items())
        metadata = self._metadata(request)
        if note is not None and note.trace:
            metadata[context.TRACE] = note.trace
        if "upgrade" in request and scope.proto == "ws":
            await self._converse(scope, proto, request, metadata)
            return
        try:
            try:
                route = self._routes[scope.path]
            except NoRoute:
                # gRPC's paths are no routes: a service of ours has no dot before its handler.
                if self._grpc_web is not None and self._grpc_web.asked(scope, request):
                    await self._grpc_web.answer(scope, proto, request, self._body_timeout)
                    return
                if await self._answer_raw(scope, proto, request, metadata):
                    return
                raise
            if route.watched:
                self._watch(route, scope, request, metadata)
            if route.stream or ("accept" in request and asked(request["accept"])):
                await self._stream(route, scope, proto, request, metadata)
                return
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
            if not await self._answer_own(scope, proto, request, metadata):
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

    def owns(self, path: str) -> bool:
        """Whether a path is a function's."""
        return self._functions is not None and self._functions.owns(path)

    def _choose(self) -> None:
        """Look for functions only while there are some."""
        self._functions = self._door or None

    def _metadata(self, request: dict[str, str]) -> dict[str, str]:
        titles = self._titles
        metadata = {title: value for name, value in request.items() if (title := titles[name])}
        if context.TRACE not in metadata or not _TRACE.fullmatch(metadata[context.TRACE]):
            metadata[context.TRACE] = f"{self._prefix}{next(self._count):016x}"
        return metadata

    def _watch(
        self, route: Route, scope: Any, request: dict[str, str], metadata: dict[str, str]
    ) -> None:
        """Do for a service what it cannot do for itself.

        Raises:
            errors.Error: its caller may not call it.
        """
        if route.service == AUTH:
            metadata[context.CLIENT_ADDRESS] = canonical(scope.client)
        if route.foreign and self._access is not None:
            shown = request.get("authorization")
            self._access.admit(shown, self._namespace, route.service, route.endpoint)

    async def _read(self, scope: Any, proto: Any, request: dict[str, str], route: Route) -> bytes:
        if scope.method not in _METHODS:
            raise errors.MethodNotAllowed("gateway", f"the method {scope.method} has no meaning")
        content = await receive(proto, request, self._body_timeout)
        kind = request.get("content-type", "")
        return body.from_body(route, scope.query_string, kind, content)

    async def end_streams(self, last: float = LAST) -> None:
        """Before the gateway stops: streams go on for ``last`` seconds, and are told then."""
        await self._streams.stop(last)

    async def _stream(
        self,
        route: Route,
        scope: Any,
        proto: Any,
        request: dict[str, str],
        metadata: dict[str, str],
    ) -> None:
        """Answer by a stream, or take one."""
        items = None
        if route.takes and ndjson.is_kind(request.get("content-type", "")):
            sent = body.from_query(route, scope.query_string)
            items = ndjson.items(proto, request)
        elif scope.method in _BODILESS:
            sent = body.from_query(route, scope.query_string)
        else:
            sent = await self._read(scope, proto, request, route)
        call = _open_call(route, sent, request, metadata)
        await self._streams.answer(call, items, form_of(route, request), scope, proto, request)

    async def _converse(
        self, scope: Any, proto: Any, request: dict[str, str], metadata: dict[str, str]
    ) -> None:
        """Carry a WebSocket."""
        try:
            if self.owns(scope.path):
                detail = f"{scope.path[:100]} is a function's, and functions take no WebSockets"
                raise errors.BadRequest("functions", detail)
            try:
                route = self._routes[scope.path]
            except NoRoute:
                raw = self._raw.find(scope.path, WEBSOCKET)
                if raw is None:
                    raise
                _keep_tokens(metadata)
                head = encode_head(request_head(scope, WEBSOCKET))
                call = Call(raw.service, raw.endpoint, head, metadata)
                await self._streams.carry(call, scope, proto, request)
                return
            if route.watched:
                self._watch(route, scope, request, metadata)
            sent = body.from_query(route, scope.query_string)
            call = _open_call(route, sent, request, metadata)
            await self._streams.converse(call, route.takes, scope, proto, request)
        except errors.Error as error:
            self._streams.refuse(scope, proto, request, error, metadata)
        except Exception:
            log.exception("the WebSocket %s failed", scope.path)
            failed = errors.InternalServerError("gateway", "the gateway failed; its log says why")
            self._streams.refuse(scope, proto, request, failed, metadata)
        finally:
            proto.close(None)

    async def _answer_raw(
        self, scope: Any, proto: Any, request: dict[str, str], metadata: dict[str, str]
    ) -> bool:
        """Let an endpoint answer that takes whole requests, its errors included."""
        try:
            raw = self._raw.find(scope.path, scope.method)
            if raw is None:
                return False
            _keep_tokens(metadata)
            self._patience.begin(proto)
            try:
                room = self._streams.room(scope)
                await forward(self._client, raw, scope, proto, metadata, room)
            finally:
                self._patience.end(proto)
        except errors.Error as error:
            answer.send_error(proto, request, error, metadata)
            await discard(proto, request)
        return True

    async def _answer_own(
        self, scope: Any, proto: Any, request: dict[str, str], metadata: dict[str, str]
    ) -> bool:
        """Answer what is the gateway's own: looked at last, so that calls do not pay for it."""
        if scope.method == "OPTIONS":
            answer.send_preflight(proto, request)
            return True
        try:
            if (own := self._own.get(scope.path)) is not None:
                if scope.path not in HEALTH:
                    self._asker(request)
                status, content = own()
                answer.send(proto, request, codec.encode(content), status)
                return True
            if scope.path == metrics.PATH:
                await metrics.send_metrics(self._client, scope, proto, request, metadata)
                return True
            if scope.path == _FAVICON:
                proto.response_empty(204, [])
                return True
            return await self._openapi.answer(
                scope, proto, request, self._asker
            ) or await self._asyncapi.answer(scope, proto, request, metadata, self._asker)
        except errors.Error as error:
            answer.send_error(proto, request, error, metadata)
            return True

    def _asker(self, request: dict[str, str]) -> Account | None:
        """Who makes a request; None is anybody.

        Raises:
            errors.Unauthorized: what it shows is no good token.
        """
        shown = request.get("authorization")
        if shown is None or self._access is None:
            return None
        token = self._access.token(shown)
        return token.account if token is not None else None

    def refuse(self, scope: Any, proto: Any, request: dict[str, str], error: errors.Error) -> None:
        """Answer a request that is not let in."""
        metadata = self._metadata(request)
        if scope.proto == "ws":
            self._streams.refuse(scope, proto, request, error, metadata)
        else:
            answer.send_error(proto, request, error, metadata)

    def _version(self) -> tuple[int, dict[str, Any]]:
        return 200, {"version": __version__}

    def _healthz(self) -> tuple[int, dict[str, Any]]:
        return 200, {"status": "ok"}

    def _jwks(self) -> tuple[int, dict[str, Any]]:
        from microcosmos.auth.keys import jwks

        policy = self._access.policy if self._access is not None else None
        return 200, jwks(policy.keys if policy is not None else {})

    def _readyz(self) -> tuple[int, dict[str, Any]]:
        return (200, {"status": "ready"}) if self.ready else (503, {"status": "starting"})


def _keep_tokens(metadata: dict[str, str]) -> None:
    """Leave an application its own passwords: they are in its request, and no tokens of ours."""
    shown = metadata.get(context.AUTHORIZATION)
    if shown is not None and not is_token(shown):
        del metadata[context.AUTHORIZATION]


def _open_call(
    route: Route, sent: bytes, request: dict[str, str], metadata: dict[str, str]
) -> Call:
    """The call of a stream, which lasts as long as both ends unless its client says otherwise."""
    told = request.get("micro-timeout")
    timeout = _timeout(told, math.inf) if told is not None else None
    return Call(route.service, route.endpoint, sent, metadata, timeout)


def _timeout(text: str, longest: float = LONGEST_TIMEOUT) -> float:
    """Seconds of a duration like ``500ms``, ``5s`` or ``2m``; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not (seconds := float(found[1]) * _UNITS[found[2]]):
        raise errors.BadRequest("gateway", f"Micro-Timeout {text[:20]!r} is no duration like 5s")
    return min(seconds, longest)
