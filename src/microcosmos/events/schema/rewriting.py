"""Schemas written anew: without notes, and with references that lead elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec

_LITERAL = frozenset(("const", "enum", "default", "examples", "example"))
# What stands below these are schemas by names of anybody's choice.
_MAPS = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))

# What says nothing of which values fit.
_NOTES = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
        *("writeOnly", "discriminator", "contentEncoding", "contentMediaType", "contentSchema"),
        *("$comment", "$schema", "$id", "id", "$anchor", "$defs", "definitions", "$vocabulary"),
    )
)


CONTRARY = frozenset(("oneOf", "not", "if", "contains", "unevaluatedProperties"))
"""More that fits in here is less that fits."""


def encoded(value: Any) -> str:
    """One text of a value, whatever the order of its names."""
    return msgspec.json.encode(value, order="deterministic").decode()


def bare(schema: Any, *, named: bool = False) -> Any:
    """A schema without notes, but for defaults of properties: those matter to who reads."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if named:
        return {name: _with_default(bare(inner), inner) for name, inner in schema.items()}
    return {
        key: value if key in _LITERAL else bare(value, named=key in _MAPS)
        for key, value in schema.items()
        if key not in _NOTES
    }


def _with_default(plain: Any, schema: Any) -> Any:
    if _has_default(schema):
        return {**plain, "default": schema["default"]}
    return plain


def pointers(schema: Any, *, named: bool = False) -> list[str]:
    """The references in a schema."""
    if isinstance(schema, list):
        return [pointer for one in schema for pointer in pointers(one)]
    if not isinstance(schema, dict):
        return []
    if named:
        return pointers(list(schema.values()))
    found = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    for key, value in schema.items():
        if key not in _LITERAL and key not in ("$defs", "definitions"):
            found += pointers(value, named=key in _MAPS)
    return found


def says(schema: Any, keywords: frozenset[str]) -> bool:
    """Whether one of these keywords occurs; a property of that name counts too."""
    if isinstance(schema, list):
        return any(says(one, keywords) for one in schema)
    if not isinstance(schema, dict):
        return False
    return not keywords.isdisjoint(schema) or says(list(schema.values()), keywords)


def moved(schema: Any, *, reading: bool, named: bool = False) -> Any:
    """A schema whose references lead to the root's new place, for who reads without defaults."""
    if isinstance(schema, list):
        return [moved(one, reading=reading) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if named:
        return {name: moved(one, reading=reading) for name, one in schema.items()}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("$id", "id", "$anchor"):
            continue
        if key == "$ref" and isinstance(value, str):
            found[key] = "#/$defs/root" + value.removeprefix("#")
        elif key == "required":
            found[key] = required(schema, reading=reading)
        elif key in _LITERAL:
            found[key] = value
        else:
            found[key] = moved(value, reading=reading, named=key in _MAPS)
    return found


def required(schema: dict[str, Any], *, reading: bool) -> list[str]:
    """The names that have to be there; what has a default need not, for who reads."""
    names = schema.get("required", [])
    if not isinstance(names, list):  # draft 3
        return []
    if not reading:
        return names
    declared = schema.get("properties", {})
    return [name for name in names if not _has_default(declared.get(name))]


def _has_default(schema: Any) -> bool:
    return isinstance(schema, dict) and "default" in schema
