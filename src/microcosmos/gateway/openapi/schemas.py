"""Schemas of one service's types: checked, and under names that are free in the whole document.

What a service says of itself comes over the wire, and may be anything. A document must hold
whatever one of them says, so only keywords with values that make sense are taken over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from microcosmos.base import codec

Schema = dict[str, Any]

DEEPEST = 48
"""How deep a schema is taken over; what is below may be anything."""

COMPONENTS = "#/components/schemas/"
_DEFS = "#/$defs/"

_LONGEST_PATTERN = 1000

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_pattern(value: Any) -> bool:
    try:
        return _is_text(value) and len(value) <= _LONGEST_PATTERN and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError):
        return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_names(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value)) and len({*value}) == len(value)


def _are_types(value: Any) -> bool:
    if _are_names(value) and value:
        return _TYPES.issuperset(value)
    return _is_text(value) and value in _TYPES


_PLAIN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("title", "description", "format", "contentEncoding", "contentMediaType"), _is_text
    ),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _is_flag),
    **dict.fromkeys(("enum", "examples"), _is_list),
    **dict.fromkeys(("default", "const"), lambda _: True),
    "multipleOf": _is_positive,
    "pattern": _is_pattern,
    "required": _are_names,
    "type": _are_types,
}
_OF_ONE = frozenset(
    ("items", "additionalProperties", "propertyNames", "not", "contains", "if", "then", "else")
)
_OF_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_OF_MAP = frozenset({"properties", "patternProperties"})


def checked(schema: Any, refs: Mapping[str, str], depth: int = 0) -> Any:
    """What makes sense of a schema, with its references led to new places.

    Args:
        schema: anything; what is no schema becomes one that takes anything.
        refs: new places by old ones; a reference to any other is left out.
        depth: how deep it stands.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict) or depth > DEEPEST:
        return {}
    found: Schema = {}
    for key, value in schema.items():
        if (good := _PLAIN.get(key)) is not None:
            if good(value):
                found[key] = value
        elif key in _OF_ONE:
            found[key] = checked(value, refs, depth + 1)
        elif key in _OF_LIST and _is_list(value) and value:
            found[key] = [checked(one, refs, depth + 1) for one in value]
        elif key in _OF_MAP and isinstance(value, dict):
            found[key] = {name: checked(one, refs, depth + 1) for name, one in value.items()}
        elif key == "$ref" and _is_text(value) and value in refs:
            found[key] = refs[value]
        elif key == "discriminator" and (kept := _discriminator(value, refs)):
            found[key] = kept
    return found


def _discriminator(value: Any, refs: Mapping[str, str]) -> Schema | None:
    match value:
        case {"propertyName": str(name), "mapping": dict(mapping)}:
            kept = {key: refs[old] for key, old in mapping.items() if _is_text(old) and old in refs}
            return {"propertyName": name, "mapping": kept}
        case {"propertyName": str(name)}:
            return {"propertyName": name}
    return None


class Components:
    """What the operations of one service refer to; its schemas are ``helloworld.Greeting``.

    No other service has these names: they begin with the service's, and a type's has no dot. Two
    types of one name, of different endpoints or versions, stay two: ``helloworld.Item-Create``.
    Without a service there is nothing before the names.

    Attributes:
        schemas: by their names in the document.
        bodies: of requests, by service and endpoint.
        answers: likewise.
    """

    def __init__(self, service: str) -> None:
        self.schemas: dict[str, Schema] = {}
        self.bodies: dict[str, Schema] = {}
        self.answers: dict[str, Schema] = {}
        self._service = service
        self._made_of: dict[str, bytes] = {}

    def take(self, defs: Any, hint: str) -> dict[str, str]:
        """Add definitions; gives their new places by their old ones.

        Args:
            defs: schemas by name, as an endpoint has them in ``$defs``.
            hint: what tells those from others of the same name.
        """
        if not isinstance(defs, dict):
            return {}
        local = {_DEFS + name: _DEFS + name for name in defs}
        clean = {name: checked(schema, local) for name, schema in defs.items()}
        made_of = _closures(clean)
        names = {name: self._name(name, made_of[name], hint) for name in clean}
        refs = {_DEFS + name: COMPONENTS + new for name, new in names.items()}
        for name, new in names.items():
            if new not in self.schemas:
                self.schemas[new] = checked(clean[name], refs)
        return refs

    def behind(self, schema: Any) -> Schema:
        """The schema that references lead to, with what stands beside them; ``{}`` of a bool."""
        seen: set[str] = set()
        while isinstance(schema, dict) and (ref := schema.get("$ref")) and ref not in seen:
            seen.add(ref)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            target = self.schemas.get(ref.removeprefix(COMPONENTS), {})
            schema = {**target, **beside} if isinstance(target, dict) else beside
        return schema if isinstance(schema, dict) else {}

    def _name(self, name: str, made_of: bytes, hint: str) -> str:
        plain = f"{self._service}.{_plain(name)}" if self._service else _plain(name)
        tried, count = plain, 1
        while self._made_of.setdefault(tried, made_of) != made_of:
            tried = f"{plain}-{_plain(hint)}" + (f"-{count}" if count > 1 else "")
            count += 1
        return tried


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name) or "_"


def _closures(defs: Mapping[str, Any]) -> dict[str, bytes]:
    """Of each type what it is made of, however deep: types are the same if this is."""
    texts = {name: hashlib.sha256(codec.encode(schema)).digest() for name, schema in defs.items()}
    below = {name: set(_named(schema)) & defs.keys() for name, schema in defs.items()}
    found = {}
    for name in defs:
        reached: set[str] = set()
        waiting = {name}
        while waiting:
            reached |= waiting
            waiting = set().union(*(below[one] for one in waiting)) - reached
        parts = [name.encode(), *(one.encode() + texts[one] for one in sorted(reached))]
        found[name] = hashlib.sha256(b"\0".join(parts)).digest()
    return found


def _named(schema: Any) -> list[str]:
    """The names that a schema refers to."""
    if isinstance(schema, list):
        return [name for one in schema for name in _named(one)]
    if isinstance(schema, dict):
        return [name for one in schema.values() for name in _named(one)]
    if isinstance(schema, str) and schema.startswith(_DEFS):
        return [schema.removeprefix(_DEFS)]
    return []
