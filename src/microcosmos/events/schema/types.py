"""The schemas of types: the same type always has the same text."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from microcosmos.base import codec
from microcosmos.rpc.schemas import Schemas, Side

MAX_REMEMBERED = 4096
"""Types whose schemas are remembered."""

_REF = "#/$defs/"


def schema_of(kind: Any, side: Side = "serialization") -> str:
    """The JSON text of a type's schema, its names in order; empty when it may be anything.

    Args:
        kind: a struct, a dataclass, a TypedDict, a pydantic model, or anything below one.
        side: ``serialization`` if it is written, ``validation`` if it is read; only models of
            pydantic tell these apart.
    """
    try:
        return _remembered(kind, side)
    except TypeError:  # it has no hash
        return _text(kind, side)


@functools.lru_cache(MAX_REMEMBERED)
def _remembered(kind: Any, side: Side) -> str:
    return _text(kind, side)


def _text(kind: Any, side: Side) -> str:
    if kind in (Any, None, bytes, bytearray, memoryview, msgspec.Raw, object):
        return ""
    schemas = Schemas()
    try:
        found = schemas.of(kind, side)
    except NameError:  # its hints name what is not in its module: nobody can tell what it is
        return ""
    return text_of(found, schemas.defs)


def text_of(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """One text of a schema and of what it refers to; empty when it may be anything."""
    if not schema:
        return ""
    kept = _reached(schema, defs)
    name = schema["$ref"].removeprefix(_REF) if schema.keys() == {"$ref"} else ""
    if name and name in kept and name not in _named(list(kept.values())):
        # Nothing else refers to it: it stands at the top, as everybody else writes it.
        schema = kept.pop(name)
    whole = {**schema, "$defs": kept} if kept else schema
    return msgspec.json.encode(whole, order="deterministic").decode()


def of_endpoint(schema: bytes) -> tuple[str, str]:
    """What an endpoint takes and gives, from the schema that it has in the registry of services."""
    whole: dict[str, Any] = codec.decode(schema)
    defs = whole.get("$defs", {})
    return (
        text_of(whole.get("request", {}), defs) or "{}",
        text_of(whole.get("response", {}), defs) or "{}",
    )


def _reached(schema: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """The definitions that a schema refers to, and those that they refer to."""
    found: dict[str, Any] = {}
    open_names = _named(schema)
    while open_names:
        name = open_names.pop()
        if name not in found and name in defs:
            found[name] = defs[name]
            open_names |= _named(defs[name])
    return found


def _named(schema: Any) -> set[str]:
    """The definitions that a schema refers to itself."""
    if isinstance(schema, list):
        return set[str]().union(*map(_named, schema))
    if not isinstance(schema, dict):
        return {schema.removeprefix(_REF)} if _is_pointer(schema) else set()
    return set[str]().union(*map(_named, schema.values()))


def _is_pointer(value: Any) -> bool:
    # A discriminator's mapping has pointers too, beside those of $ref.
    return isinstance(value, str) and value.startswith(_REF)
