"""What endpoints take and give, as JSON Schema: for documents, forms and generated clients."""

from __future__ import annotations

from typing import Any

from microcosmos.base import codec

from . import docstring
from .schemas import Schema, Schemas


def schema(request: Any, response: Any, items: Any = None, *, doc: str | None = None) -> bytes:
    """The JSON of one object with the schemas of an endpoint, JSON Schema 2020-12.

    Args:
        request: the type of what a call takes.
        response: the type of the answer, or of each answer of a stream.
        items: the type of what the caller streams; None if it does not.
        doc: the docstring of what answers: its text becomes ``description``, what it says of its
            arguments the descriptions of the request's fields.
    """
    schemas = Schemas()
    found: Schema = {
        "request": schemas.of(_as_sent(request)),
        "response": schemas.of(_as_sent(response), "serialization"),
    }
    if items is not None:
        found["items"] = schemas.of(items)
    about = docstring.parse(doc)
    if about.text:
        found["description"] = about.text
    if schemas.defs:
        _describe(_behind(found["request"], schemas), about.fields)
        found["$defs"] = schemas.defs
    return codec.encode(found)


def _behind(schema: Schema, schemas: Schemas) -> Schema:
    """The schema that a reference leads to."""
    return schemas.defs.get(schema.get("$ref", "").rpartition("/")[2], schema)


def _describe(request: Schema, texts: dict[str, str]) -> None:
    fields: dict[str, Schema] = request.get("properties", {})
    for name, text in texts.items():
        if name in fields:
            fields[name].setdefault("description", text)


def _as_sent(kind: Any) -> Any:
    """The type as it travels: an answer of None is an empty object."""
    return dict[str, Any] if kind is None or kind is type(None) else kind
