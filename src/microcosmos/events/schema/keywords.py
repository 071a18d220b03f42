"""What one schema says by its own keywords, as shapes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from .rewriting import bare, encoded, pointers, required
from .shapes import NOT_SAID, Array, Names, Number, Object, Places, Shape, Text, Value, node, tight

FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname"),
        *("ipv4", "ipv6", "iri", "iri-reference", "json-pointer", "regex"),
        *("relative-json-pointer", "time", "uri", "uri-reference", "uri-template", "uuid"),
    )
)
"""The formats that texts are held against; others say nothing."""

# Keywords that are not understood, those together that mean something together only, and the type
# of values that they are about.
_OPAQUE = {
    "not": (("not",), ""),
    "if": (("if", "then", "else"), ""),
    "contains": (("contains", "minContains", "maxContains"), "array"),
    "unevaluatedItems": (("unevaluatedItems",), "array"),
    "dependentRequired": (("dependentRequired",), "object"),
    "dependentSchemas": (("dependentSchemas",), "object"),
    "dependencies": (("dependencies",), "object"),
    "unevaluatedProperties": (("unevaluatedProperties",), "object"),
}
# These judge what other keywords beside them have not: alone they mean nothing.
_BESIDE = frozenset(("unevaluatedProperties", "unevaluatedItems"))
# A property may be declared in here too.
_DECLARING = frozenset(("if", "then", "else", "dependentSchemas", "dependencies"))


def plain(schema: dict[str, Any], lonely: bool, *, reading: bool) -> Iterator[Shape]:
    """The shapes of a schema without what it is made of by others."""
    types = schema.get("type")
    wanted = {types} if isinstance(types, str) else set(types or ()) or None
    unknown = _opaque(schema, "", reading)
    if wanted is None or "null" in wanted:
        yield Value(unknown, None, any_of_type=True)
    if wanted is None or "boolean" in wanted:
        yield Value(unknown, True, any_of_type=True)
        yield Value(unknown, False, any_of_type=True)
    if wanted is None or wanted & {"number", "integer"}:
        whole = wanted is not None and "number" not in wanted
        yield _numbers(schema, unknown, whole)
    if wanted is None or "string" in wanted:
        yield _texts(schema, unknown)
    if wanted is None or "array" in wanted:
        yield _arrays(schema, _opaque(schema, "array", reading), lonely)
    if wanted is None or "object" in wanted:
        yield _objects(schema, _opaque(schema, "object", reading), reading)


def _opaque(schema: dict[str, Any], kind: str, reading: bool) -> frozenset[tuple[str, str]]:
    """The keywords that are not understood and are about values of a type."""
    found = set()
    for keyword, (together, about) in _OPAQUE.items():
        if keyword in schema and about in ("", kind):
            said = {one: bare(schema[one]) for one in together if one in schema}
            # What stands beside others, or refers to them, may be another thing elsewhere.
            only_here = keyword in _BESIDE or pointers(list(said.values()))
            text = f"{id(schema)} {reading}" if only_here else encoded(said)
            found.add((keyword, text))
    return frozenset(found)


def _numbers(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], whole: bool) -> Number:
    least, above = _decimal(schema.get("minimum")), schema.get("exclusiveMinimum")
    most, below = _decimal(schema.get("maximum")), schema.get("exclusiveMaximum")
    if isinstance(above, bool):  # draft 4
        least, above = (None, schema.get("minimum")) if above else (least, None)
    if isinstance(below, bool):
        most, below = (None, schema.get("maximum")) if below else (most, None)
    step = _decimal(schema.get("multipleOf"))
    steps = frozenset() if step is None else frozenset((step,))
    return tight(Number(opaque, whole, least, _decimal(above), most, _decimal(below), steps))


def _texts(schema: dict[str, Any], opaque: frozenset[tuple[str, str]]) -> Text:
    formats = {schema["format"]} & FORMATS if isinstance(schema.get("format"), str) else set()
    return Text(
        opaque,
        int(schema.get("minLength", 0)),
        _whole(schema.get("maxLength")),
        frozenset((schema["pattern"],) if "pattern" in schema else ()),
        frozenset(formats),
    )


def _arrays(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], lonely: bool) -> Array:
    first, rest = schema.get("prefixItems", ()), schema.get("items")
    if isinstance(rest, list):  # before 2020-12
        first, rest = rest, schema.get("additionalItems")
    elif lonely:
        first = ()
    said = bool(first) or rest is not None
    return Array(
        opaque,
        (Places(tuple(first), rest),) if said else (),
        int(schema.get("minItems", 0)),
        _whole(schema.get("maxItems")),
        bool(schema.get("uniqueItems")),
    )


def _objects(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], reading: bool) -> Object:
    declared = schema.get("properties", NOT_SAID)
    patterns, rest = schema.get("patternProperties", {}), schema.get("additionalProperties")
    asked = frozenset(required(schema, reading=reading))
    said = declared is not NOT_SAID or patterns or rest is not None
    unevaluated = schema.get("unevaluatedProperties", False)
    return Object(
        opaque,
        (Names(declared, patterns, rest),) if said else (),
        asked,
        node(schema.get("propertyNames")),
        int(schema.get("minProperties", 0)),
        _whole(schema.get("maxProperties")),
        more=bool(_DECLARING & schema.keys()) or unevaluated is not False,
    )


def _decimal(number: Any) -> Decimal | None:
    return None if number is None or isinstance(number, bool) else Decimal(str(number))


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)
