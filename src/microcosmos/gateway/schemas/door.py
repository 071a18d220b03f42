"""The door as an ASGI application: from paths to what is done."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import msgspec

from microcosmos import __version__
from microcosmos.base import context, errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.events.schema.catalogue import Catalogue
from microcosmos.events.schema.interface import TYPE
from microcosmos.events.schema.registry import Registry

from . import ids, settings, subjects
from .asked import MAX_SENT, Asked, subject_in
from .failures import Failure, body_of
from .raw import Raw
from .visitors import Visitors

log = logging.getLogger("microcosmos.gateway")

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

Answer = Callable[..., Awaitable[Any]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SUBJECT, _VERSION, _ID = "(?P<subject>.+)", "(?P<number>[^/]+)", "(?P<id>[^/]+)"


class Route(NamedTuple):
    """What a path and a method mean.

    Attributes:
        method: of HTTP.
        path: what matches the path; its named parts are given on.
        answer: what is done.
        right: what it takes: to read, to register, or to administer.
        noted: what the audit log says when it was done.
    """

    method: str
    path: re.Pattern[str]
    answer: Answer
    right: str = "read"
    noted: str = ""


def _route(method: str, path: str, answer: Answer, right: str = "read", noted: str = "") -> Route:
    for name, pattern in (("SUBJECT", _SUBJECT), ("VERSION", _VERSION), ("ID", _ID)):
        path = path.replace(name, pattern)
    return Route(method, re.compile(path), answer, right, noted)


class Door:
    """The REST interface of the Confluent Schema Registry; an ASGI application.

    Args:
        registry: the core's own.
        visitors: finds out who asks.
        audit: notes what was set and deleted.
    """

    def __init__(self, registry: Registry, visitors: Visitors, *, audit: Audit = unaudited) -> None:
        self._registry = registry
        self._visitors = visitors
        self._audit = audit
        self._routes = _routes()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, body = await self._answered(scope, receive)
        except errors.Error as error:
            status, body = body_of(error)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            failed = errors.InternalServerError("schemas", "the registry failed; its log says why")
            status, body = body_of(failed)
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b'Basic realm="schemas"'))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(
        self, scope: MutableMapping[str, Any], receive: Receive
    ) -> tuple[int, bytes]:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        path = scope["path"].removeprefix(scope["root_path"]).strip("/")
        asked = Asked(
            "GET" if scope["method"] == "HEAD" else scope["method"],
            path,
            scope["query_string"].decode("latin-1"),
            lambda: _whole(receive),
        )
        client = scope.get("client")
        await self._visitors.enter(headers, client[0] if client else "")
        found = await self._do(asked)
        return 200, found.text.encode() if isinstance(found, Raw) else msgspec.json.encode(found)

    async def _do(self, asked: Asked) -> Any:
        route, given = self._route(asked)
        subject = given.get("subject", "")
        if subject:
            subject = given["subject"] = subject_in(subject)
        if route.right == "read":
            self._visitors.reading()
        elif route.right == "register":
            self._visitors.registering(subject)
        else:
            self._visitors.administering("" if route.right == "configure" else subject)
        answer = await route.answer(self._catalogue, asked, **given)
        if route.noted:
            shown = msgspec.json.encode(answer).decode()
            await self._audit(route.noted, subject or "all topics", shown)
        return answer

    @property
    def _catalogue(self) -> Catalogue:
        return self._registry.of(context.current().namespace)

    def _route(self, asked: Asked) -> tuple[Route, dict[str, str]]:
        """What is asked for, and the parts of its path.

        Raises:
            errors.NotFound: there is no such path.
            Failure: there is, but not with this method.
        """
        allowed = []
        for route in self._routes:
            if (found := route.path.fullmatch(asked.path)) is not None:
                if route.method == asked.method:
                    return route, found.groupdict()
                allowed.append(route.method)
        if not allowed:
            raise errors.NotFound("schemas", f"there is nothing at /{asked.path[:200]}")
        raise Failure(405, f"{asked.method} has no meaning here; it answers {', '.join(allowed)}")


def _routes() -> list[Route]:
    """The longer ones first: a subject's name may have slashes."""
    versions = "subjects/SUBJECT/versions"
    compatible = "compatibility/subjects/SUBJECT/versions"
    config, mode = "config/SUBJECT", "mode/SUBJECT"
    return [
        _route("GET", "", _about),
        _route("GET", "v1/metadata/id", _id),
        _route("GET", "v1/metadata/version", _version),
        _route("GET", "contexts", _contexts),
        _route("GET", "schemas", subjects.schemas),
        _route("GET", "schemas/types", _types),
        _route("GET", "schemas/ids/ID", ids.schema),
        _route("GET", "schemas/ids/ID/schema", ids.text),
        _route("GET", "schemas/ids/ID/subjects", ids.subjects),
        _route("GET", "schemas/ids/ID/versions", ids.versions),
        _route("GET", "subjects", subjects.listed),
        _route("GET", f"{versions}/VERSION/schema", subjects.text),
        _route("GET", f"{versions}/VERSION/referencedby", subjects.referenced_by),
        _route("GET", f"{versions}/VERSION", subjects.version),
        _route("DELETE", f"{versions}/VERSION", subjects.delete_version, "delete", _DELETED),
        _route("GET", versions, subjects.versions),
        _route("POST", versions, subjects.register, "register"),
        _route("POST", "subjects/SUBJECT", subjects.lookup),
        _route("DELETE", "subjects/SUBJECT", subjects.delete, "delete", _DELETED),
        _route("POST", f"{compatible}/VERSION", settings.compatible),
        _route("POST", compatible, settings.compatible),
        _route("GET", "config", settings.config),
        _route("PUT", "config", settings.configure, "configure", _SET),
        _route("DELETE", "config", settings.unset, "configure", _SET),
        _route("GET", config, settings.config),
        _route("PUT", config, settings.configure, "configure", _SET),
        _route("DELETE", config, settings.unset, "configure", _SET),
        _route("GET", "mode", settings.mode),
        _route("PUT", "mode", settings.set_mode, "configure"),
        _route("GET", mode, settings.mode),
        _route("PUT", mode, settings.set_mode, "configure"),
        _route("DELETE", mode, settings.unset_mode, "configure"),
    ]


_DELETED, _SET = "schema deleted", "schema mode set"


async def _about(catalogue: Catalogue, asked: Asked) -> dict[str, Any]:
    """``GET /``: that there is a registry."""
    return {}


async def _id(catalogue: Catalogue, asked: Asked) -> dict[str, Any]:
    """``GET /v1/metadata/id``."""
    scope = {"path": [], "clusters": {"schema-registry-cluster": catalogue.namespace}}
    return {"id": "", "scope": scope}


async def _version(catalogue: Catalogue, asked: Asked) -> dict[str, str]:
    """``GET /v1/metadata/version``."""
    return {"version": __version__, "commitId": ""}


async def _types(catalogue: Catalogue, asked: Asked) -> list[str]:
    """``GET /schemas/types``."""
    return [TYPE]


async def _contexts(catalogue: Catalogue, asked: Asked) -> list[str]:
    """``GET /contexts``: the default one."""
    return asked.page(["."])


async def _whole(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        errors.TooLarge: it is over `MAX_SENT`.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise errors.ClientClosed("schemas", "the client has gone")
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > MAX_SENT:
            raise errors.TooLarge("schemas", f"the body is over the limit of {MAX_SENT} bytes")
        if not event.get("more_body"):
            return b"".join(parts)
