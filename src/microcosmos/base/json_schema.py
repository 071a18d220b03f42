"""JSON Schema seen as the value trees of `schema`: how programs of other languages tell shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .schema import MAX_DEPTH, Value

_SIMPLE = {
    "string": "string",
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "null": "null",
}
_OF_CHOICES = {int: "integer", str: "string", bool: "boolean"}
_REFERENCES = ("#/$defs/", "#/definitions/")
_BYTES = frozenset(("base64", "base64url"))
_UNNAMED = "Object"

# A chain of references that never arrives is cut here.
_LONGEST_CHAIN = 16


def tree(schema: Any, defs: Mapping[str, Any] | None = None, name: str = "") -> Value:
    """The value tree of a JSON Schema; what it does not tell is ``any``.

    Args:
        schema: of the request or the answer.
        defs: the schemas that ``#/$defs/NAME`` means; its own ones unless said.
        name: of the root's struct, unless the schema has a title or is a reference.
    """
    own = schema.get("$defs") or schema.get("definitions") if isinstance(schema, dict) else None
    reader = _Reader({**(own if isinstance(own, dict) else {}), **(defs or {})})
    root = reader.read(schema, "", name, 0)
    return Value(name=root.type, type=root.type, values=root.values)


class _Reader:
    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs

    def read(self, schema: Any, field: str, name: str, depth: int) -> Value:
        """The node of one schema.

        Args:
            schema: what to read; anything but an object says nothing.
            field: the node's name.
            name: of the struct, if it turns out to be one without a name of its own.
            depth: how far below the root.
        """
        schema, name = self._resolved(schema, name)
        match _kind(schema):
            case "object":
                return self._object(schema, field, str(schema.get("title") or name), depth)
            case "array":
                item = self.read(schema.get("items"), "", name, depth + 1)
                return Value(name=field, type=f"[]{item.type}", values=item.values)
            case "string" if schema.get("contentEncoding") in _BYTES:
                return Value(name=field, type="bytes")
            case kind:
                return Value(name=field, type=_SIMPLE.get(kind, "any"))

    def _object(self, schema: dict[str, Any], field: str, name: str, depth: int) -> Value:
        properties = schema.get("properties")
        if isinstance(properties, dict) and properties:
            values = []
            if depth < MAX_DEPTH:
                values = [
                    self.read(below, str(key), _struct(str(key)), depth + 1)
                    for key, below in properties.items()
                ]
            return Value(name=field, type=_struct(name), values=values)
        others = schema.get("additionalProperties")
        if others is False:
            return Value(name=field, type=_struct(name))
        item = self.read(others, "", name, depth + 1)
        return Value(name=field, type=f"map[string]{item.type}", values=item.values)

    def _resolved(self, schema: Any, name: str) -> tuple[dict[str, Any], str]:
        """The schema that is meant, through references and a choice between it and null."""
        for _ in range(_LONGEST_CHAIN):
            if not isinstance(schema, dict):
                break
            if isinstance(reference := schema.get("$ref"), str):
                name = reference.rpartition("/")[2]
                known = reference.removesuffix(name) in _REFERENCES
                schema = self._defs.get(name) if known else None
            elif (only := _only(schema)) is not None:
                schema = only
            else:
                return schema, name
        return {}, name


def _only(schema: dict[str, Any]) -> Any:
    """The one schema of ``anyOf``, ``oneOf`` or ``allOf`` that is not null; None if none is."""
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(choices := schema.get(word), list):
            kinds = [choice for choice in choices if choice != {"type": "null"}]
            return kinds[0] if len(kinds) == 1 else None
    return None


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        kind = kinds[0] if len(kinds) == 1 else None
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, list) and choices:
        types = {type(choice) for choice in choices}
        return _OF_CHOICES.get(types.pop(), "") if len(types) == 1 else ""
    return ""


def _struct(name: str) -> str:
    """A name that no simple type, list or map has."""
    plain = "".join(letter for letter in name if letter.isalnum() or letter == "_")
    return plain[:1].upper() + plain[1:] or _UNNAMED
