"""Foreign services: what their ADR-32 announcements mean in our words.

An endpoint belongs to the handler that its group names: ``sum`` in the group ``math`` of the
service ``calc`` is ``Math.Sum``, at ``/calc/math/sum``. Without a group, or in one that is called
like the service, it belongs to the service's own: ``Calc.Sum``, at ``/calc/sum``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from microcosmos.base import errors, json_schema, names
from microcosmos.base.schema import Value
from microcosmos.rpc import announce

log = logging.getLogger("microcosmos.registry")

_value = msgspec.json.Decoder(Value)
_object = msgspec.json.Decoder(dict[str, Any])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


def endpoints(service: str, info: announce.Info) -> Iterator[tuple[str, announce.EndpointInfo]]:
    """The endpoints that can be called, by their names here.

    Of two that would have one name the first stands; the log has the other.
    """
    seen: set[str] = set()
    for endpoint in info.endpoints or []:
        name = endpoint_name(service, endpoint)
        try:
            names.check_endpoint(name)
        except errors.BadRequest:
            log.warning("%s: endpoint %r has no name that can be called", service, endpoint.name)
            continue
        if name in seen:
            log.warning("%s: a second endpoint is called %s (%s)", service, name, endpoint.subject)
            continue
        seen.add(name)
        yield name, endpoint


def endpoint_name(service: str, info: announce.EndpointInfo) -> str:
    """``Handler.Method`` of an endpoint: its own word for it, else by its name and group."""
    if given := (info.metadata or {}).get(announce.ENDPOINT):
        return given
    method = names.camel(_plain(info.name))
    if method[:1].isdigit():
        method = f"N{method}"
    return f"{_handler(service, info)}.{method}"


def _handler(service: str, info: announce.EndpointInfo) -> str:
    group = info.subject.removesuffix(f".{info.name}")
    if group == info.subject:
        return names.handler_of(service)
    for own in (service, names.announced(service)):
        if f"{group}.".lower().startswith(f"{own}.".lower()):
            group = group[len(own) + 1 :]
            break
    # In a wildcard nothing is said.
    words = [word for word in group.split(".") if word not in ("*", ">")]
    return "".join(names.camel(_plain(word)) for word in words) or names.handler_of(service)


def _plain(word: str) -> str:
    return _NOT_IN_A_NAME.sub("-", word)


def shapes(name: str, metadata: dict[str, str]) -> tuple[Value, Value]:
    """The shapes of an endpoint's request and answer.

    They are what `announce.REQUEST` and `announce.RESPONSE` say, else what `announce.SCHEMA` does.
    """
    schema = schema_of(metadata) or {}
    method = name.partition(".")[2]
    found = []
    for key, word in ((announce.REQUEST, "request"), (announce.RESPONSE, "response")):
        if text := metadata.get(key):
            found.append(_decoded(text))
        elif word in schema:
            defs = schema.get("$defs")
            defs = defs if isinstance(defs, dict) else None
            found.append(json_schema.tree(schema[word], defs, f"{method}{word.capitalize()}"))
        else:
            found.append(Value())
    return found[0], found[1]


def schema_of(metadata: dict[str, str]) -> dict[str, Any] | None:
    """What `announce.SCHEMA` says; None if that is nothing that can be read."""
    text = metadata.get(announce.SCHEMA)
    if not text:
        return None
    try:
        return _object.decode(text)
    except _UNREADABLE as exc:
        log.warning("%s of an endpoint cannot be read: %s", announce.SCHEMA, exc)
        return None


def _decoded(text: str) -> Value:
    try:
        return _value.decode(text)
    except _UNREADABLE as exc:
        log.warning("the shape of an endpoint cannot be read: %s", exc)
        return Value()
