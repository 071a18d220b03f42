"""What is answered at ``/asyncapi`` and ``/asyncapi.json``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

from microcosmos.base import codec, context, errors
from microcosmos.gateway.answer import Header, headers_of
from microcosmos.gateway.openapi.publisher import Printed, printed
from microcosmos.gateway.openapi.site import METHODS, Asker, send_document
from microcosmos.registry import Table
from microcosmos.rpc import Call, Client

from . import page
from .document import document
from .known import CONSUMERS, EVENTS, LIST, flows

PAGE = "/asyncapi"
DOCUMENT = "/asyncapi.json"

TIMEOUT = 10.0
"""Seconds that the schema registry may take to tell what it knows."""

_CARRIED = (context.AUTHORIZATION, context.NAMESPACE, context.TRACE)


class AsyncApi:
    """The document and the page of one gateway: what who asks may read of the schema registry.

    Args:
        client: reaches the registry.
        table: who is alive.
        namespace: whose topics.
    """

    def __init__(
        self, client: Client, table: Table, namespace: str = context.DEFAULT_NAMESPACE
    ) -> None:
        self._client = client
        self._table = table
        self._namespace = namespace
        # The last one that was made, by what it was made of.
        self._made: tuple[bytes, tuple[Printed, Printed]] | None = None

    async def answer(
        self,
        scope: Any,
        proto: Any,
        request: dict[str, str],
        metadata: dict[str, str],
        asker: Asker,
    ) -> bool:
        """Answer a request if its path is one of these.

        Raises:
            errors.Error: the document is not for who asks, or cannot be made; at `PAGE` that is
                told by a page.
        """
        path: str = scope.path
        if path not in (PAGE, DOCUMENT):
            return False
        if scope.method not in METHODS:
            refused = errors.MethodNotAllowed("gateway", f"{path} is read with GET")
            allow = ("allow", ", ".join(METHODS))
            proto.response_bytes(405, [*headers_of(request), allow], refused.to_http())
            return True
        try:
            asker(request)
            made, shown = await self._documents(metadata)
        except (errors.Unauthorized, errors.Forbidden) as error:
            if path == DOCUMENT:
                raise
            proto.response_bytes(error.code, _headers(), page.refused(error.detail).encode())
            return True
        if path == DOCUMENT:
            send_document(proto, request, made)
        else:
            send_document(proto, request, shown, _headers())
        return True

    async def _documents(self, metadata: dict[str, str]) -> tuple[Printed, Printed]:
        carried = {name: metadata[name] for name in _CARRIED if name in metadata}
        asked = (self._ask(LIST, carried), self._ask(CONSUMERS, carried))
        subjects, consumers = await asyncio.gather(*asked)
        services = self._table.services()
        names = sorted({one.name for one in services})
        nodes = (node for one in services for node in one.nodes)
        server = next((one.address for one in nodes if one.address), "")
        parts = [subjects, consumers, server.encode(), *(name.encode() for name in names)]
        key = hashlib.sha256(b"\0".join(parts)).digest()
        if self._made is None or self._made[0] != key:
            known = (self._namespace, subjects, consumers, frozenset(names), _host(server))
            self._made = key, await asyncio.to_thread(_made, *known)
        return self._made[1]

    async def _ask(self, endpoint: str, carried: dict[str, str]) -> bytes:
        """Ask as who makes the request."""
        try:
            return await self._client.send(Call(EVENTS, endpoint, b"{}", carried, TIMEOUT))
        except errors.NotFound:
            # There are no events here, as in a program that runs alone.
            return b'{"subjects":[],"consumers":[]}'


def _made(
    namespace: str, subjects: bytes, consumers: bytes, services: frozenset[str], server: str
) -> tuple[Printed, Printed]:
    found = document(flows(namespace, subjects, consumers, services, server))
    shown = page.write(found, link=DOCUMENT)
    return printed(codec.encode, found), printed(str.encode, shown)


def _host(address: str) -> str:
    """Host and port of a URL of the engine."""
    return address.rpartition("://")[2].partition(",")[0].rstrip("/")


def _headers() -> list[Header]:
    """The headers of the page, whose own style and script are all that a browser takes."""
    style, script = (_hash_of(text) for text in (page.style(), page.SCRIPT))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ]


def _hash_of(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
