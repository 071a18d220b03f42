"""Schemas of what is known by its value tree only: foreign services tell no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from microcosmos.base.schema import Value
from microcosmos.registry.interface import Described, Description, Endpoint

Schema = dict[str, Any]

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "bool": {"type": "boolean"},
    "null": {"type": "null"},
    **{name: {"type": "integer"} for name in ("int64", "int32", "uint64", "uint32", "int", "long")},
    **{name: {"type": "number"} for name in ("float64", "float32", "double", "float")},
}


def completed(
    versions: list[Description], endpoint: Callable[[str, str], Endpoint | None]
) -> list[Description]:
    """Descriptions with schemas for those endpoints that tell none.

    Args:
        versions: of services.
        endpoint: finds an endpoint of a service by both names.
    """

    def complete(service: str, one: Described) -> Described:
        known = None if one.schema else endpoint(service, one.name)
        if known is None:
            return one
        schema = {"request": of(known.request), "response": of(known.response)}
        return msgspec.structs.replace(one, schema=schema)

    return [
        msgspec.structs.replace(
            version, endpoints=[complete(version.name, one) for one in version.endpoints]
        )
        for version in versions
    ]


def of(value: Value) -> Schema:
    """The schema of a tree; a tree does not tell which of its fields are needed."""
    if value.is_list:
        return {"type": "array", "items": of(_inner(value, "[]"))}
    if value.is_map:
        return {"type": "object", "additionalProperties": of(_inner(value, "map[string]"))}
    if value.type in _SCALARS:
        return dict(_SCALARS[value.type])
    if value.values:
        return {"type": "object", "properties": {one.name: of(one) for one in value.values}}
    return {}


def _inner(value: Value, prefix: str) -> Value:
    return Value(type=value.type.removeprefix(prefix), values=value.values)
