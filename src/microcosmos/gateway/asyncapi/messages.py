"""A topic's schema as a message of the document."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from microcosmos.gateway.openapi.examples import NoExample, example
from microcosmos.gateway.openapi.schemas import Components, checked

from .flows import Payload

Schema = dict[str, Any]

DEEPEST = 64
"""How deep a schema is read for definitions; what is nested deeper is not looked at."""

HEADERS: Schema = {
    "Micro-Key": {
        "type": "string",
        "description": "Messages of one key may be handled in their order.",
    },
    "Micro-Trace": {
        "type": "string",
        "description": "Ties the logs of all that came of one request together.",
    },
}
"""Headers that any message may have."""

_DRAFT_7 = "#/definitions/"
_DEFS = "#/$defs/"


def message(payload: Payload, components: Components, *, kind: str = "events") -> Schema:
    """The message of a topic.

    Args:
        payload: what the topic has.
        components: takes the definitions of its schema.
        kind: by what it goes.
    """
    schema = _renamed(payload.schema, 0)
    schema = schema if isinstance(schema, dict) else {}
    refs = components.take(schema.get("$defs"), payload.topic)
    read = _plain(checked(schema, refs))
    found: Schema = {
        "name": _name(read) or payload.topic,
        "contentType": "application/json",
        "headers": _headers(payload, kind),
        "payload": read,
    }
    if isinstance(text := components.behind(read).get("description"), str):
        found["description"] = text
    with contextlib.suppress(NoExample):
        shown = example(read, components.behind)
        # Readers of the document would follow it.
        if '"$ref"' not in json.dumps(shown):
            found["examples"] = [{"payload": shown}]
    if payload.id:
        found["x-schema-id"] = payload.id
        found["x-schema-version"] = payload.version
    if payload.compatibility:
        found["x-compatibility"] = payload.compatibility
    return found


def definitions(components: Components) -> Schema:
    """The definitions that messages refer to."""
    return {name: _plain(schema) for name, schema in sorted(components.schemas.items())}


def _headers(payload: Payload, kind: str) -> Schema:
    fields = dict(HEADERS)
    if kind == "events":
        fields["Nats-Msg-Id"] = {
            "type": "string",
            "description": "The event's id: an event with an id that was there already is dropped.",
        }
    if payload.id:
        fields["Micro-Schema"] = {
            "type": "string",
            "description": "The id of the schema that the payload was written by.",
            "examples": [str(payload.id)],
        }
    return {"type": "object", "properties": dict(sorted(fields.items()))}


def _name(schema: Schema) -> str:
    """What a schema is called, by its title or by what it refers to."""
    named = schema.get("title") or str(schema.get("$ref", "")).rpartition("/")[2]
    return named if isinstance(named, str) else ""


def _renamed(schema: Any, depth: int) -> Any:
    """A schema of draft 7 as newer ones are, whose definitions are in ``$defs``."""
    if depth > DEEPEST:
        return {}
    if isinstance(schema, list):
        return [_renamed(one, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # A field that is called so would be followed by readers of the document.
    kept = {key: one for key, one in schema.items() if key != "$ref" or isinstance(one, str)}
    found = {key: _renamed(value, depth + 1) for key, value in kept.items()}
    if isinstance(reference := found.get("$ref"), str) and reference.startswith(_DRAFT_7):
        found["$ref"] = _DEFS + reference.removeprefix(_DRAFT_7)
    if depth == 0 and isinstance(older := found.get("definitions"), dict):
        newer = found.get("$defs")
        found["$defs"] = {**older, **(newer if isinstance(newer, dict) else {})}
    return found


def _plain(schema: Any) -> Any:
    """A schema without what only OpenAPI knows: its discriminators are no texts."""
    if "discriminator" not in json.dumps(schema):
        return schema
    return _stripped(schema)


def _stripped(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_stripped(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    keep = {
        key: value
        for key, value in schema.items()
        if not (key == "discriminator" and isinstance(value, dict) and "propertyName" in value)
    }
    return {key: _stripped(value) for key, value in keep.items()}
