"""Services to one OpenAPI document; pure functions, the same for the same services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from microcosmos import __version__
from microcosmos.base import codec, errors, names
from microcosmos.functions.requests import OF_FUNCTIONS
from microcosmos.functions.showing import path_of
from microcosmos.registry.interface import Described, Description
from microcosmos.rpc.http import HANDLER

from . import raw
from .failures import HEADERS, SCHEMA, responses
from .operations import path_item
from .schemas import Components

Schema = dict[str, Any]

_ABOUT = """\
Everything that can be called here, over HTTP.

A request is a JSON body, or the fields of one in a query string. Every error has the same form.
`Micro-Timeout: 5s` says how long a call may take, `Micro-Trace` (32 hexadecimal digits) names it
in the logs, and `Micro-Namespace` the namespace it is made in; any other header is metadata of the
call."""


_Section = dict[str, msgspec.Raw]


class Part(msgspec.Struct, frozen=True):
    """One service's part of a document; what it has of each section is JSON already."""

    name: str
    version: str
    description: str
    paths: _Section
    schemas: _Section
    bodies: _Section
    answers: _Section


def part(descriptions: list[Description]) -> Part:
    """A service's part of any document.

    Args:
        descriptions: its versions, at least one; what the first says of an endpoint comes first.
    """
    first = descriptions[0]
    components = Components(first.name)
    items: dict[str, Schema] = {}
    for endpoint, versions in sorted(_by_endpoint(descriptions).items()):
        if HANDLER in versions[0][1].metadata:
            for path, item in raw.path_items(first.name, versions[0][1]).items():
                items[path] = items.get(path, {}) | item
            continue
        function = first.metadata.items() >= OF_FUNCTIONS.items()
        path = path_of(first.name) if function else names.to_path(first.name, endpoint)
        if function or _leads_to(path, first.name, endpoint):
            items[path] = path_item(first.name, versions, components)
    return Part(
        name=first.name,
        version=first.version,
        description=_about(descriptions),
        paths=_written(items),
        schemas=_written(components.schemas),
        bodies=_written(components.bodies),
        answers=_written(components.answers),
    )


def _by_endpoint(descriptions: list[Description]) -> dict[str, list[tuple[str, Described]]]:
    found: dict[str, list[tuple[str, Described]]] = {}
    for at, description in enumerate(descriptions):
        for endpoint in description.endpoints:
            version = description.version if at else ""
            found.setdefault(endpoint.name, []).append((version, endpoint))
    return found


def _leads_to(path: str, service: str, endpoint: str) -> bool:
    """Whether a path leads back to its endpoint; names of foreign ones may be too strange."""
    try:
        return names.from_path(path) == (service, endpoint)
    except errors.Error:
        return False


def _about(descriptions: list[Description]) -> str:
    text = descriptions[0].metadata.get("description", "")
    versions = [one.version for one in descriptions]
    told = "" if versions == ["latest"] else f"Version {', '.join(versions)}."
    return "\n\n".join(filter(None, (text, told)))


def _written(section: dict[str, Schema]) -> _Section:
    return {name: msgspec.Raw(codec.encode(one)) for name, one in section.items()}


def whole(parts: Iterable[Part], server: str = "/") -> bytes:
    """The JSON of a document of all that can be called.

    Args:
        parts: the services in the order that they are to be shown in.
        server: the URL that paths begin at; as it is, wherever the document was fetched.
    """
    info = {"title": "Microcosmos", "version": __version__, "description": _ABOUT}
    return _document(info, list(parts), server)


def single(only: Part, server: str = "/") -> bytes:
    """The JSON of a document of one service; see `whole`."""
    info = {"title": only.name, "version": only.version, "description": only.description or _ABOUT}
    return _document(info, [only], server)


def _document(info: Schema, parts: list[Part], server: str) -> bytes:
    paths: Schema = {}
    schemas: Schema = {"Error": SCHEMA}
    bodies: Schema = {}
    answers: Schema = responses()
    for one in parts:
        paths |= one.paths
        schemas |= one.schemas
        bodies |= one.bodies
        answers |= one.answers
    document = {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": server}],
        "security": [{}, {"token": []}],
        "tags": [_tag(one) for one in parts],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "requestBodies": bodies,
            "responses": answers,
            "headers": HEADERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return codec.encode(document)


def _tag(one: Part) -> Schema:
    return {"name": one.name, **({"description": one.description} if one.description else {})}
