"""Who a request is from: looked at before anything else is.

A good token is good wherever a request leads to, and a bad one is good for nothing: not for what
is open to everybody either, since whoever shows one takes himself for somebody.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from microcosmos.auth.access import Access
from microcosmos.base import context, errors, names
from microcosmos.rpc.client import BEARER, is_token

from .handing import TRACE, Note, begin_of
from .receive import discard
from .request import Changed
from .streams.origins import Origins

COOKIE = "micro-token"
"""The cookie that stands for a token, on requests of the gateway's own pages; as in Micro v3."""

HEALTH = frozenset(("/healthz", "/readyz"))
"""What tells everybody how the gateway is, whoever they are."""

_AUTHORIZATION = "authorization"
_NAMESPACE = context.NAMESPACE.lower()
_COOKIE = re.compile(rf"(?:^|;)\s*{COOKIE}=\"?([^;\"]*)")
_OWN_PAGES = Origins()
_BODILESS = frozenset(("GET", "HEAD"))


class App(Protocol):
    """What answers for a namespace."""

    def __rsgi__(self, scope: Any, proto: Any) -> Awaitable[None]: ...


Refuse = Callable[[Any, Any, dict[str, str], errors.Error], None]
"""Answers a request, by its scope, its exchange and its headers, with an error."""

Worlds = Callable[[str], Awaitable[App]]
"""Gives what answers for a namespace other than `micro`."""


class Doorman:
    """An RSGI application that lets requests in to others, by token and by namespace.

    What shows nothing and is for the namespace `micro` pays for three looks at its headers.

    Args:
        app: what answers for the namespace `micro`.
        access: knows good tokens, and the namespaces.
        refuse: tells who is not let in.
        worlds: gives what answers for other namespaces.
    """

    def __init__(self, app: App, access: Access, refuse: Refuse, worlds: Worlds) -> None:
        self._app = app
        self._begin = begin_of(app)
        self._access = access
        self._refuse = refuse
        self._worlds = worlds
        self._known = access.policy is not None
        access.on_change(self._changed)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        """Begin one request."""
        headers = scope.headers
        if (
            self._known
            and _AUTHORIZATION not in headers
            and _NAMESPACE not in headers
            and "cookie" not in headers
        ):
            return self._begin(scope, proto, note)
        return self._let_in(scope, proto, note)

    def _changed(self, _: object) -> None:
        self._known = True

    async def _let_in(self, scope: Any, proto: Any, note: Note | None) -> None:
        told = [(TRACE, note.trace)] if note is not None and note.trace else []
        if scope.path in HEALTH:
            await self._app.__rsgi__(scope, proto)
            return
        try:
            visit = self._look_at(scope)
            app = self._app
            if visit.namespace != context.DEFAULT_NAMESPACE:
                app = await self._worlds(visit.namespace)
        except errors.Error as error:
            request = dict(scope.headers.items())
            self._refuse(scope, proto, request, error)
            if scope.proto == "http" and scope.method not in _BODILESS:
                await discard(proto, request)
            return
        if told := [*told, *visit.told]:
            scope = Changed(scope, [*scope.headers.items(), *told])
        await app.__rsgi__(scope, proto)

    def _look_at(self, scope: Any) -> _Visit:
        """What a request shows.

        Raises:
            errors.Unauthorized: a token that is not good.
            errors.BadRequest: a namespace that is no name, or two of them.
            errors.NotFound: one that there is not.
            errors.Unavailable: the policy is not known yet.
        """
        policy = self._access.policy
        if policy is None:
            detail = "it is not known yet who may call; try again"
            raise errors.Unavailable("gateway", detail)
        told: list[tuple[str, str]] = []
        header = _only(scope.headers, _AUTHORIZATION, errors.Unauthorized)
        if header is None and (cookie := _cookie(scope.headers)):
            header = f"{BEARER}{cookie}"
            told.append((_AUTHORIZATION, header))
        token = None
        if header is not None and is_token(header):
            token = self._access.token(header)
        namespace = _only(scope.headers, _NAMESPACE, errors.BadRequest)
        if namespace is None:
            namespace = token.account.namespace if token else context.DEFAULT_NAMESPACE
            if namespace != context.DEFAULT_NAMESPACE:
                told.append((_NAMESPACE, namespace))
        if namespace not in policy.rules:
            names.check_namespace(namespace)
            raise errors.NotFound("gateway", f"there is no namespace {namespace}")
        return _Visit(namespace, told)


class _Visit(NamedTuple):
    """Where a request belongs, and the headers that say of it what it does not itself."""

    namespace: str
    told: list[tuple[str, str]]


def _only(headers: Any, name: str, refusal: type[errors.Error]) -> str | None:
    """The value of a header that may come once; None if it does not.

    Raises:
        errors.Error: it comes again, or is nothing that can be read.
    """
    if name not in headers:
        return None
    values: list[str] = headers.get_all(name)
    # Of values that are not ASCII Granian says nothing, but that the name is there.
    if headers.get(name) is None:
        raise refusal("gateway", f"the header {context.title(name)} cannot be read")
    if len(values) > 1:
        raise refusal("gateway", f"the header {context.title(name)} comes more than once")
    return values[0]


def _cookie(headers: Any) -> str:
    """The token that a page of the gateway's own shows by a cookie.

    A browser sends cookies with what pages of other sites ask for, too; so it has to say that the
    page is ours. A cookie of another's request is as if it had not been sent.
    """
    if "cookie" not in headers:
        return ""
    found = _COOKIE.search("; ".join(headers.get_all("cookie")))
    return found[1].strip() if found is not None and _is_own(headers) else ""


def _is_own(headers: Any) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return False
    if origin is not None:
        try:
            _OWN_PAGES.check(origin, headers.get("host", ""))
        except errors.Forbidden:
            return False
    return site in (None, "same-origin")
