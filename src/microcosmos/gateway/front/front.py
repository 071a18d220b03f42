"""One request through every policy: who may come in, what is answered here, what is passed on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.base import context, errors, names
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.gateway import answer
from microcosmos.gateway.handing import Note, begin_of, traced
from microcosmos.gateway.receive import discard
from microcosmos.gateway.request import Changed, Noted, Pairs
from microcosmos.registry import Table
from microcosmos.rpc.client import is_token

from . import static
from .addresses import canonical
from .blocks import Blocked, Blocks
from .cache import Cache
from .counters import Counters
from .limits import Asked, Limits
from .proxies import Proxies
from .routing import Moved, Routing, Way, host_of
from .settings import NONE, Settings

log = logging.getLogger("microcosmos.gateway")

_TRACE = re.compile(r"[0-9a-f]{32}")
_BODILESS = frozenset(("GET", "HEAD"))
# Who watches over the gateway is no client of it.
_OWN = frozenset(("/healthz", "/readyz"))

Serve = Callable[[Any, Any], Coroutine[Any, Any, None]]


class App(Protocol):
    """The gateway, as the policies see it."""

    ready: bool

    def owns(self, path: str) -> bool: ...

    def __rsgi__(self, scope: Any, proto: Any) -> Coroutine[Any, Any, None]: ...


class Front:
    """The gateway's policies as an RSGI application around it.

    While nothing is said, nothing is done: requests go to the application at once. That ends with
    the first setting, blocked client, or endpoint whose answers may be cached.

    Args:
        app: the gateway.
        table: who is alive.
        counters: the file that the gateways of a server count in; None counts for this one alone.
        access: who shows which token, and what everybody may call; None believes what is shown,
            and lets everybody call everything.
        namespace: whose services the table knows.
        clock: tells the time of limits and of the cache.
    """

    def __init__(
        self,
        app: App,
        table: Table,
        counters: Path | None = None,
        *,
        access: Access | None = None,
        namespace: str = context.DEFAULT_NAMESPACE,
        clock: Clock = SYSTEM,
    ) -> None:
        self._gateway = app
        self._app: Serve = app.__rsgi__
        self._begin = begin_of(app)
        self._table = table
        self._counters_path = counters
        self._counters: Counters | None = None
        self._access = access
        self._namespace = namespace
        self._clock = clock
        self._settings = NONE
        self._listed: list[Blocked] = []
        self._cache = Cache(self._app, table, clock.monotonic, self._choose, self._is_public)
        self._rules: _Rules | None = None
        self._serve: Serve = self._app
        self._choose()

    def __rsgi__(self, scope: Any, proto: Any) -> Coroutine[Any, Any, None]:
        """Answer one request; the entry of who waits for that."""
        return self._serve(scope, proto)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Awaitable[None] | None:
        """Begin one request."""
        if self._serve is self._app:
            return self._begin(scope, proto, note)
        return self._serve(traced(scope, note), proto)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def apply(self, given: Settings) -> None:
        """From the next request on, these settings hold."""
        self._settings = given
        self._cache.allow(given.cache.bytes)
        self._build()

    def block(self, listed: Iterable[Blocked]) -> None:
        """From the next request on, these are refused, beside those of the settings."""
        self._listed = list(listed)
        self._build()

    def close(self) -> None:
        """Give up what is still being fetched, and the counters."""
        self._cache.close()
        if self._counters is not None:
            self._counters.close()

    def _build(self) -> None:
        if self._settings == NONE and not self._listed:
            self._rules = None
        else:
            if self._settings.limits and self._counters is None:
                self._counters = Counters(self._counters_path)
            self._rules = _Rules(
                self._settings, self._listed, self._table, self._counters, self._clock
            )
        self._choose()

    def _choose(self) -> None:
        """The shortest way that does what has been asked for."""
        if self._rules is not None:
            # These rules, not those that there will be once a request has its turn.
            self._serve = partial(self._guarded, partial(self._ruled, self._rules))
        elif self._cache:
            self._serve = partial(self._guarded, self._cached)
        else:
            self._serve = self._app

    async def _guarded(self, serve: Any, scope: Any, proto: Any) -> None:
        """Answer errors of the policies; the application answers its own."""
        request: dict[str, str] = {}
        try:
            await serve(scope, proto, request)
        except errors.Error as error:
            _refuse(scope, proto, request, error)
        except asyncio.CancelledError:
            stopping = errors.Unavailable("gateway", "the gateway stopped before the answer came")
            _refuse(scope, proto, request, stopping)
            return
        except Exception:
            log.exception("%s %s failed", scope.method, scope.path)
            failed = errors.InternalServerError("gateway", "the gateway failed; its log says why")
            _refuse(scope, proto, request, failed)
        else:
            return
        if scope.proto == "http" and scope.method not in _BODILESS:
            await discard(proto, request)

    async def _cached(self, scope: Any, proto: Any, request: dict[str, str]) -> None:
        if scope.proto == "http" and scope.method in _BODILESS:
            request.update(scope.headers.items())
            if await self._cache.answer(scope, proto, request):
                return
        await self._app(scope, proto)

    async def _ruled(self, rules: _Rules, scope: Any, proto: Any, request: dict[str, str]) -> None:
        client = rules.proxies.client(scope.client, scope.scheme, scope.headers.items())
        request.update(client.pairs)
        header = partial(_header, request)
        account = self._account(request)
        rules.blocks.check(client.address, header, account)
        target = self._target(rules, scope, host_of(request.get("host") or scope.authority or ""))
        if rules.limits is not None and scope.path not in _OWN:
            where = target.path if isinstance(target, Way) else scope.path
            token = self._counted(request, account)
            told = rules.limits.check(Asked(where, client.address, header, token))
            if told and scope.proto == "http":
                proto = Noted(proto, told)
        changed = _changed(scope, client.address, client.scheme, client.pairs)
        if isinstance(target, Way):
            changed.change(path=target.path, query_string=target.query)
            await self._pass_on(changed, proto, request)
        elif isinstance(target, Moved):
            proto.response_empty(target.status, [("location", target.location)])
            if scope.method not in _BODILESS:
                await discard(proto, request)
        elif not static.answer(target, changed, proto, request):
            if target.prefix:
                raise errors.NotFound("gateway.static", "there is no such file")
            await self._pass_on(changed, proto, request)

    def _account(self, request: dict[str, str]) -> Account | None:
        """Whose good token a request shows; those that are not good have been refused before."""
        shown = request.get("authorization")
        if self._access is None or shown is None or not is_token(shown):
            return None
        token = self._access.token(shown)
        return token.account if token is not None else None

    def _counted(self, request: dict[str, str], account: Account | None) -> str:
        """What stands for a request's token where requests are counted."""
        if self._access is None:
            return request.get("authorization", "")
        return f"{account.namespace}/{account.id}" if account is not None else ""

    def _is_public(self, service: str, endpoint: str) -> bool:
        """Whether everybody may call an endpoint."""
        if self._access is None:
            return True
        try:
            self._access.admit(None, self._namespace, service, endpoint)
        except errors.Error:
            return False
        return True

    async def _pass_on(self, scope: Any, proto: Any, request: dict[str, str]) -> None:
        shareable = scope.proto == "http" and scope.method in _BODILESS and self._cache
        if not shareable or not await self._cache.answer(scope, proto, request):
            await self._app(scope, proto)

    def _target(self, rules: _Rules, scope: Any, host: str) -> Moved | Way | static.Mount:
        """What answers a request: redirects first, then routes, folders, domains, services."""
        path, query, routing = scope.path, scope.query_string, rules.routing
        plain = scope.proto == "http"
        if plain and (moved := routing.moved(host, path, query)):
            return moved
        if way := routing.routed(host, scope.method, path, query):
            return way
        if plain and (mount := rules.statics.mount(host, path)):
            return mount
        if (below := routing.below(host, path)) is not None:
            return Way(below, query)
        if plain and (root := rules.statics.root(host)) and not self._is_known(path):
            return root
        return Way(path, query)

    def _is_known(self, path: str) -> bool:
        """Whether a path is the gateway's or a service's; any may be while nothing is known."""
        if path in _OWN or not self._gateway.ready or self._gateway.owns(path):
            return True
        try:
            return self._table.knows(names.from_path(path)[0])
        except errors.Error:
            return False


class _Rules:
    """What the settings and the block list come to."""

    def __init__(
        self,
        given: Settings,
        listed: list[Blocked],
        table: Table,
        counters: Counters | None,
        clock: Clock,
    ) -> None:
        self.proxies = Proxies(given.proxies)
        self.blocks = Blocks(given.block.addresses, given.block.keys, listed)
        self.limits = Limits(given.limits, counters, clock.time) if counters is not None else None
        self.routing = Routing(given, table)
        self.statics = static.Statics(given.static)


def _header(request: dict[str, str], name: str) -> str:
    return request.get(name, "")


def _changed(scope: Any, address: str, scheme: str, pairs: Pairs) -> Changed:
    """The scope with the client that it really has."""
    peer = scope.client
    if canonical(peer) != address:
        peer = f"[{address}]:0" if ":" in address else f"{address}:0"
    return Changed(scope, pairs, client=peer, scheme=scheme)


def _refuse(scope: Any, proto: Any, request: dict[str, str], error: errors.Error) -> None:
    """Answer with an error; it may bring headers of its own."""
    if scope.proto != "http":
        proto.close(error.code)
        return
    headers = answer.headers_of(request) + getattr(error, "headers", [])
    if error.code == 401:
        headers.append(("www-authenticate", "Bearer"))
    if _TRACE.fullmatch(trace := request.get("micro-trace", "")):
        headers.append(("micro-trace", trace))
    proto.response_bytes(error.code, headers, error.to_http())
