"""What a worker is told of a request, beside its body: see `microcosmos.functions.wire`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec

from microcosmos.base import context, errors
from microcosmos.functions.routing import Found
from microcosmos.gateway.doorman import COOKIE
from microcosmos.rpc.client import is_token

Pairs = list[tuple[str, str]]

# They concern one connection, or its beginning; what a function answers must not have them either.
HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_UNTOLD = HOP | {"expect", context.CLIENT_ADDRESS.lower()}
_ASKED = frozenset(("authorization", "cookie", *_UNTOLD))

_SAFE = "/_.~!$&'()*+,;=:@-"
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_KNOWN = 1000
_LONGEST = 200
_TOKEN = re.compile(rf"(?:^|;)\s*{COOKIE}=[^;]*")

_encode = msgspec.json.Encoder().encode


class Heads:
    """Makes the heads of requests."""

    def __init__(self) -> None:
        # What many requests have in common; anybody may send others, so they have an end.
        self._origins: dict[tuple[str, str], str] = {}
        self._urls: dict[str, str] = {}

    def make(
        self,
        found: Found,
        scope: Any,
        method: str,
        path: str,
        pairs: Pairs,
        request: dict[str, str],
    ) -> bytes:
        """The head of a request.

        Args:
            found: where it goes.
            scope: the request.
            method: of it.
            path: of it.
            pairs: its headers; names may come again.
            request: the same as a dict.

        Raises:
            errors.BadRequest: its host is no host.
        """
        scheme = scope.scheme
        origin = self._origins.get((scheme, request.get("host", "")))
        if origin is None:
            origin = self._origin(scope, request)
        url = self._urls.get(path) or self._url(path)
        if query := scope.query_string:
            url = f"{url}?{query if query.isascii() else quote(query, safe='%/?' + _SAFE)}"
        if not _ASKED.isdisjoint(request):
            pairs = _told(pairs)
        head = f"{method}\n{origin}{url}\n"
        return b"%b%b\n%b\n%b" % (head.encode(), found.params, _encode(pairs), found.path.encode())

    def _url(self, path: str) -> str:
        """A path as it stands in a URL."""
        made = quote(path, safe=_SAFE)
        if len(path) <= _LONGEST:
            if len(self._urls) >= _KNOWN:
                self._urls.clear()
            self._urls[path] = made
        return made

    def _origin(self, scope: Any, request: dict[str, str]) -> str:
        """The scheme and the host of a URL."""
        told = request.get("host", "")
        host = told or scope.authority or scope.server
        if len(host) > _LONGEST or not _HOST.fullmatch(host):
            raise errors.BadRequest("gateway", f"the header Host is no host: {host[:80]!r}")
        if len(self._origins) >= _KNOWN:
            self._origins.clear()
        made = self._origins[scope.scheme, told] = f"{scope.scheme}://{host}"
        return made


def _told(pairs: Pairs) -> Pairs:
    """The headers that a function sees: no tokens of ours, which are good for more than it."""
    told: Pairs = []
    for name, value in pairs:
        if name in _UNTOLD or (name == "authorization" and is_token(value)):
            continue
        if name == "cookie" and COOKIE in value:
            value = _TOKEN.sub("", value).lstrip("; ")
            if not value:
                continue
        told.append((name, value))
    return told
