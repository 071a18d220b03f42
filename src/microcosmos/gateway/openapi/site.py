"""What is answered at ``/openapi`` and ``/openapi.json``."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.base import context, errors, names
from microcosmos.gateway.answer import Header, headers_of
from microcosmos.gateway.encodings import accepts
from microcosmos.registry import Table
from microcosmos.rpc import Client

from .publisher import Printed, Publisher

PAGE = "/openapi"
DOCUMENT = "/openapi.json"
_OF_SERVICE = re.compile(r"/openapi/([^/]+)\.json")
METHODS = ("GET", "HEAD")
"""How documents and pages are read."""

Asker = Callable[[dict[str, str]], Account | None]
"""Says by its headers who makes a request."""


class OpenApi:
    """The documents and the page of one gateway.

    Args:
        client: reaches the registry.
        table: who is alive.
        access: who may call what; None lets everybody call everything.
        namespace: whose services the table knows.
    """

    def __init__(
        self,
        client: Client,
        table: Table,
        access: Access | None = None,
        namespace: str = context.DEFAULT_NAMESPACE,
    ) -> None:
        self._publisher = Publisher(client, table, access, namespace)
        self._page = _Page()

    async def answer(self, scope: Any, proto: Any, request: dict[str, str], asker: Asker) -> bool:
        """Answer a request if its path is one of these.

        Raises:
            errors.NotFound: a document of a service that is not there.
            errors.Unauthorized: of somebody who shows something else than a good token.
        """
        path: str = scope.path
        if not path.startswith(PAGE):
            return False
        of_service = _OF_SERVICE.fullmatch(path)
        if path not in (PAGE, DOCUMENT) and not of_service:
            return False
        account = asker(request)
        if scope.method not in METHODS:
            refused = errors.MethodNotAllowed("gateway", f"{path} is read with GET")
            allow = ("allow", ", ".join(METHODS))
            proto.response_bytes(405, [*headers_of(request), allow], refused.to_http())
        elif path == PAGE:
            self._page.send(proto)
        else:
            service = of_service[1] if of_service else _asked(scope.query_string)
            send_document(proto, request, await self._document(service, account))
        return True

    async def _document(self, service: str, account: Account | None) -> Printed:
        if not service:
            return await self._publisher.whole(account)
        try:
            return await self._publisher.single(names.check_service(service), account)
        except errors.BadRequest as error:
            raise errors.NotFound("gateway", f"no service has this name: {error.detail}") from None


def _asked(query: str) -> str:
    """The service that a query string asks for; empty is all of them."""
    return parse_qs(query, errors="replace").get("service", [""])[-1]


def send_document(
    proto: Any, request: dict[str, str], printed: Printed, headers: list[Header] | None = None
) -> None:
    """Send a document, or that it is the one that is known.

    Args:
        proto: the exchange.
        request: its headers.
        printed: the document.
        headers: what it is, unless it is JSON; the first says its type.
    """
    headers = headers_of(request) if headers is None else [*headers]
    headers += [("etag", printed.etag), ("cache-control", "private, no-cache")]
    headers.append(("vary", "Accept-Encoding, Authorization, Cookie, Micro-Namespace"))
    known = {tag.strip() for tag in request.get("if-none-match", "").split(",")}
    if printed.etag in known or "*" in known:
        proto.response_empty(304, headers[1:])
    elif accepts(request.get("accept-encoding", ""), "gzip"):
        proto.response_bytes(200, [*headers, ("content-encoding", "gzip")], printed.packed)
    else:
        proto.response_bytes(200, headers, printed.body)


class _Page:
    """The page: one file whose own script and style are the only ones that a browser runs."""

    def __init__(self) -> None:
        self._file = resources.files(__package__) / "page.html"
        self._read: tuple[bytes, list[Header]] | None = None

    def send(self, proto: Any) -> None:
        body, headers = self._read = self._read or self._load()
        proto.response_bytes(200, headers, body)

    def _load(self) -> tuple[bytes, list[Header]]:
        body = self._file.read_bytes()
        script, style = (_hash_of(body, tag) for tag in (b"script", b"style"))
        policy = (
            f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'"
        )
        return body, [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ]


def _hash_of(page: bytes, tag: bytes) -> str:
    """The source expression of the one script or style of a page."""
    found = re.search(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    assert found is not None, f"the page has no {tag.decode()}"
    digest = base64.b64encode(hashlib.sha256(found[1]).digest()).decode()
    return f"'sha256-{digest}'"
