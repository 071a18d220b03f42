"""Values as a writer by a schema writes them, drawn by hypothesis.

Written apart from what is tested: it knows the keywords of JSON Schema, not the shapes. A writer
writes the properties that it declares, and others only where it says so.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

ODD = "zz"
"""Begins the names that nobody declares."""


class Impossible(Exception):
    """There is no such value."""


def written(draw: st.DrawFn, schema: Any, root: Any, depth: int = 0) -> Any:
    """A value by a schema; `Impossible` when there is none, or none was found."""
    if schema is False or depth > 12:
        raise Impossible
    if schema is True or not schema:
        return draw(st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3)))
    schema = merged(draw, schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or _guess(schema))
    return _OF[draw(st.sampled_from(kinds))](draw, schema, root, depth)


def merged(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """A schema without references and branches: one branch is chosen."""
    schema = dict(schema)
    parts = []
    if ref := schema.pop("$ref", None):
        found = root
        for part in ref.split("/")[1:]:
            found = found[part]
        parts.append(found)
    parts += schema.pop("allOf", [])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            parts.append(draw(st.sampled_from(schema.pop(keyword))))
    for part in parts:
        if part is False or depth > 12:
            raise Impossible
        if part is not True:
            schema = _both(schema, merged(draw, part, root, depth + 1))
    return schema


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found = {**one}
    for key, value in other.items():
        if key not in one or one[key] == value:
            found[key] = value
        elif key == "required":
            found[key] = [*one[key], *value]
        elif key == "properties":
            found[key] = {
                name: {"allOf": [part[name] for part in (one[key], value) if name in part]}
                for name in {**one[key], **value}
            }
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems"):
            found[key] = max(one[key], value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems"):
            found[key] = min(one[key], value)
        elif key == "type":
            mine = [one[key]] if isinstance(one[key], str) else one[key]
            theirs = [value] if isinstance(value, str) else value
            kinds = [kind for kind in mine if kind in theirs]
            if "number" in theirs and "integer" in mine:
                kinds.append("integer")
            if "number" in mine and "integer" in theirs:
                kinds.append("integer")
            if not kinds:
                raise Impossible
            found[key] = list(dict.fromkeys(kinds))
        elif key == "default":
            pass
        else:
            raise Impossible  # what both say cannot be told by this
    return found


def _guess(schema: dict[str, Any]) -> list[str]:
    if {"properties", "required", "additionalProperties"} & schema.keys():
        return ["object", "null"]
    return list(_OF)


def _number(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> Any:
    step = schema.get("multipleOf")
    low = schema.get("minimum", schema.get("exclusiveMinimum", -20))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 20))
    if low > high:
        raise Impossible
    value: Any = draw(
        st.integers(int(low), int(high)).map(lambda number: number + 0.0)
        if step is not None
        else st.floats(low, high, allow_nan=False)
    )
    return _checked(schema, value)


def _integer(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -20))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 20))
    if int(low) > int(high):
        raise Impossible
    return _checked(schema, draw(st.integers(int(low), int(high))))


def _checked(schema: dict[str, Any], value: Any) -> Any:
    ok = (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and ("multipleOf" not in schema or value % schema["multipleOf"] == 0)
    )
    if not ok:
        raise Impossible
    return value


def _string(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 6)
    if "pattern" in schema:
        value = draw(st.from_regex(schema["pattern"], fullmatch=False, alphabet="abcé1"))
        if not least <= len(value) <= schema.get("maxLength", len(value)):
            raise Impossible
        if value.endswith("\n"):
            raise Impossible  # Python's $ is before it, that of JSON Schema is not
        return value
    if schema.get("format") == "date":
        return draw(st.dates()).isoformat()
    if least > most and "maxLength" in schema:
        raise Impossible
    return draw(st.text("abcé1", min_size=least, max_size=max(least, most)))


def _array(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> list[Any]:
    first = schema.get("prefixItems", [])
    rest = schema.get("items", not first)
    least, most = schema.get("minItems", 0), schema.get("maxItems", max(3, len(first)))
    if rest is False:
        most = min(most, len(first))
    if least > most:
        if "maxItems" in schema or rest is False:
            raise Impossible
        most = least
    items: list[Any] = []
    for index in range(draw(st.integers(least, most))):
        try:
            items.append(
                written(draw, first[index] if index < len(first) else rest, root, depth + 1)
            )
        except Impossible:
            if len(items) < least:
                raise
            break
    if schema.get("uniqueItems"):
        kept: list[Any] = []
        for item in items:
            if item not in kept:
                kept.append(item)
        if len(kept) < least:
            raise Impossible
        items = kept
    return items


def _object(draw: st.DrawFn, schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    declared = schema.get("properties", {})
    required = schema.get("required", [])
    rest = schema.get("additionalProperties", "properties" not in schema)
    found: dict[str, Any] = {}
    for name, inner in declared.items():
        wanted = name in required
        if wanted or (depth < 8 and draw(st.booleans())):
            try:
                found[name] = written(draw, inner, root, depth + 1)
            except Impossible:
                if wanted:
                    raise
    for name in required:
        if name not in found:
            if rest is False:
                raise Impossible
            found[name] = written(draw, _called(schema, name), root, depth + 1)
    if rest is not False and depth < 8:
        names = [*schema.get("propertyNames", {}).get("enum", []), "a", "b", "c", "d", ODD]
        for name in draw(st.lists(st.sampled_from(names), max_size=3)):
            if name not in declared and name not in found:
                try:
                    found[name] = written(draw, _called(schema, name), root, depth + 1)
                except Impossible:
                    break
    if not schema.get("minProperties", 0) <= len(found) <= schema.get("maxProperties", 99):
        raise Impossible
    return found


def _called(schema: dict[str, Any], name: str) -> Any:
    """What a property has to be that is not declared."""
    for pattern, inner in schema.get("patternProperties", {}).items():
        if re.search(pattern, name):
            return inner
    if "patternProperties" in schema:
        return schema.get("additionalProperties", False)
    return schema.get("additionalProperties", True)


_OF: dict[str, Any] = {
    "null": lambda *_: None,
    "boolean": lambda draw, *_: draw(st.booleans()),
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
}
