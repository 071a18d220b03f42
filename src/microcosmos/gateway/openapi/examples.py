"""A value that fits a schema, always the same: what documents show and forms begin with."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

DEEPEST = 12
"""How deep an example goes; fields below are left out."""

LARGEST = 1000
"""The most values of an example; what is more is left out."""

LONGEST = 10_000
"""The most characters or items that an example has because a schema asks for them."""

_FORMATS = {
    "date-time": "2026-01-31T12:30:00Z",
    "date": "2026-01-31",
    "time": "12:30:00Z",
    "duration": "PT90S",
    "uuid": "7d2f4b1e-8c3a-4f5d-9b6e-1a2c3d4e5f60",
    "email": "ann@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "decimal": "9.99",
}
# Tried in turn where a pattern asks for something; which pattern it is nobody can tell.
_TEXTS = (
    "text", "Text", "TEXT", "a", "A", "ab", "AB", "abc", "ABC", "1", "12", "123", "1234", "12345",
    "a1", "A1", "abc-123", "ABC-123", "a_b", "a.b", "ann@example.com", "example.com", "1.0",
    "1.0.0", "2026-01-31", "12:30", "12:30:00", "12:30:00Z", "PT90S", "+12025550123", "#00ff00",
    "https://example.com/", "/a/b", "",
)  # fmt: skip


_SHORT = 16


class NoExample(Exception):
    """No value is known to fit."""


def example(schema: Any, behind: Callable[[Any], Schema]) -> Any:
    """A value that fits.

    Args:
        schema: what it is to fit.
        behind: follows references; see `Components.behind`.

    Raises:
        NoExample: none was found.
    """
    try:
        return _Maker(behind).make(schema, ())
    except (ArithmeticError, ValueError):
        raise NoExample from None


class _Maker:
    def __init__(self, behind: Callable[[Any], Schema]) -> None:
        self._behind = behind
        self._made = 0

    def make(self, schema: Any, path: tuple[str, ...]) -> Any:
        """A value, inside of the types whose names are ``path``."""
        self._made += 1
        if schema is False or len(path) > DEEPEST or self._made > LARGEST:
            raise NoExample
        ref = schema.get("$ref", "") if isinstance(schema, dict) else ""
        if ref and ref in path:
            raise NoExample  # a type made of itself: it has to end somewhere
        full = self._behind(schema)
        if full.get("examples"):
            return full["examples"][0]
        if full.get("default") is not None:
            return full["default"]
        if full.get("enum"):
            return full["enum"][0]
        if "const" in full:
            return full["const"]
        return self._fresh(full, (*path, ref))

    def _fresh(self, schema: Schema, path: tuple[str, ...]) -> Any:
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._first(schema, choice, path)
        if "allOf" in schema:
            return self._merged(schema, path)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        match kinds if isinstance(kinds, str) else kinds[0]:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        return _text(schema)

    def _first(self, schema: Schema, choice: str, path: tuple[str, ...]) -> Any:
        """What fits the first choice that anything is known to fit; nothing at last."""
        rest = {key: value for key, value in schema.items() if key != choice}
        options = schema[choice]
        for option in sorted(options, key=lambda one: self._behind(one).get("type") == "null"):
            try:
                value = self.make(option, path)
            except NoExample:
                continue
            if isinstance(value, dict) and "properties" in rest:
                value = {**self._object(rest, path), **value}
            return value
        raise NoExample

    def _merged(self, schema: Schema, path: tuple[str, ...]) -> Any:
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        parts = [self.make(part, path) for part in schema["allOf"]]
        if rest.get("properties"):
            parts.append(self._object(rest, path))
        if all(isinstance(part, dict) for part in parts):
            return dict(itertools.chain.from_iterable(part.items() for part in parts))
        if len(parts) == 1:
            return parts[0]
        raise NoExample

    def _object(self, schema: Schema, path: tuple[str, ...]) -> dict[str, Any]:
        needed = schema.get("required", ())
        found: dict[str, Any] = {}
        properties = schema.get("properties", {})
        for name, field in properties.items():
            try:
                found[name] = self.make(field, path)
            except NoExample:
                if name in needed:
                    raise
        for name in needed:
            if name not in properties:
                found[name] = self.make(schema.get("additionalProperties", {}), path)
        found.update(self._more(schema, path, len(found)))
        return found

    def _more(self, schema: Schema, path: tuple[str, ...], has: int) -> dict[str, Any]:
        """An entry of a map."""
        least = schema.get("minProperties", 0)
        values = schema.get("additionalProperties")
        if values in (None, False) or "properties" in schema:
            if least > has:
                raise NoExample
            return {}
        if least > 1:
            raise NoExample
        try:
            names = schema.get("propertyNames", {"const": "key"})
            return {str(self.make(names, path)): self.make(values, path)}
        except NoExample:
            if least > has:
                raise
            return {}

    def _array(self, schema: Schema, path: tuple[str, ...]) -> list[Any]:
        found = [self.make(item, path) for item in schema.get("prefixItems", ())]
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1)
        wanted = max(least, min(most, 1)) if "items" in schema else least
        if len(found) > most > len(schema.get("prefixItems", ())):
            raise NoExample
        if wanted > len(found) + 1 and schema.get("uniqueItems"):
            raise NoExample
        try:
            while len(found) < wanted:
                found.append(self.make(schema.get("items", {}), path))
        except NoExample:
            if len(found) < least:
                raise
        return found


def _number(schema: Schema, *, whole: bool) -> int | float:
    """A number within bounds: 1 or 1.5 if that is, else one at or beside a bound."""
    for value in _numbers(schema, whole):
        if _within(value, schema) and (not whole or value == int(value)):
            return int(value) if whole else value
    raise NoExample


def _numbers(schema: Schema, whole: bool) -> Iterator[int | float]:
    yield 1 if whole else 1.5
    yield 0
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1)
    if least is not None:
        yield least
        yield least + 1
        yield (least // step + 1) * step
    if most is not None:
        yield most
        yield most - 1
        yield (most // step) * step
        yield (most // step - 1) * step
    if least is not None and most is not None:
        yield (least + most) / 2
    yield step


def _within(value: float, schema: Schema) -> bool:
    least, above = schema.get("minimum", value), schema.get("exclusiveMinimum", value - 1)
    most, below = schema.get("maximum", value), schema.get("exclusiveMaximum", value + 1)
    inside = bool(least <= value <= most and above < value < below)
    return inside and value % schema.get("multipleOf", value or 1) == 0


def _text(schema: Schema) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > LONGEST:
        raise NoExample
    if known := _FORMATS.get(schema.get("format", "")):
        return known
    if schema.get("contentEncoding") == "base64":
        return "aGk=" if most is not None and most < 8 else "aGVsbG8h" * max(1, -(-least // 8))
    pattern = schema.get("pattern")
    # Short ones only: what a pattern does with a long text, nobody knows how long it takes.
    repeated = ("a" * least, "A" * least, "1" * least) if 0 < least <= _SHORT else ()
    for known in (*_TEXTS, *repeated):
        text: str = (
            known if pattern is not None else (known * least)[: max(least, len(known))][:most]
        )
        fits = len(text) >= least and (most is None or len(text) <= most)
        if fits and (pattern is None or re.search(pattern, text)):
            return text
    raise NoExample
