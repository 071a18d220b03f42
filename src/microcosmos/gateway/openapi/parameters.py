"""The fields of a request in a query string, as the gateway reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .examples import NoExample, example

Schema = dict[str, Any]
Behind = Callable[[Any], Schema]

_SCALARS = frozenset({"boolean", "integer", "number", "string"})
_NO_COMMA = r"^[^,\[\x00-\x1f][^,]*$"


def parameters(request: Schema, behind: Behind) -> list[Schema]:
    """A parameter for each field: plain values as they are, anything else as JSON."""
    needed = request.get("required", ())
    found = [
        _parameter(name, schema, behind, needed=name in needed)
        for name, schema in request.get("properties", {}).items()
    ]
    if any("content" in one for one in found):
        # Where some have examples, Schemathesis writes the JSON of the others twice.
        for one in found:
            one.pop("example", None)
    return found


def _parameter(name: str, schema: Any, behind: Behind, *, needed: bool) -> Schema:
    full = _unwrapped(schema, behind)
    found: Schema = {"name": name, "in": "query", "required": needed}
    if text := full.get("description"):
        found["description"] = text
    if full.get("deprecated"):
        found["deprecated"] = True
    if plain := _plain(full, schema):
        return {**found, "schema": plain, **_shown(plain, behind)}
    if listed := _list(full, behind, needed=needed):
        about = {"style": "form", "explode": True, "schema": listed}
        return {**found, **about, **_shown(listed, behind)}
    return {**found, "content": {"application/json": {"schema": schema}}}


def _shown(schema: Any, behind: Behind) -> Schema:
    try:
        return {"example": example(schema, behind)}
    except NoExample:
        return {}


def _unwrapped(schema: Any, behind: Behind) -> Schema:
    """The schema without the choice of null, which a query string has no word for."""
    full = behind(schema)
    options = [one for one in full.get("anyOf", ()) if behind(one).get("type") != "null"]
    if len(options) == 1:
        rest = {key: value for key, value in full.items() if key not in ("anyOf", "default")}
        inner = behind(options[0])
        told = {"default": full["default"]} if full.get("default") is not None else {}
        return {**inner, **rest, **told}
    return full


def _plain(full: Schema, schema: Any) -> Schema:
    """The schema of a parameter that is one plain value, else nothing."""
    values = full.get("enum", [full["const"]] if "const" in full else None)
    if values is not None:
        texts = [value for value in values if isinstance(value, str)]
        if not texts and all(type(value) is int for value in values):
            return {**full, "type": "integer"}
        return {**full, "type": "string", "enum": texts} if texts else {}
    kinds = full.get("type")
    if isinstance(kinds, list):
        return full if set(kinds) <= {"string", "number"} else {}
    return full if kinds in _SCALARS else {}


def _list(full: Schema, behind: Behind, *, needed: bool) -> Schema:
    """The schema of a parameter that is given again for every item, else nothing."""
    items = full.get("items")
    if full.get("type") != "array" or items is None or "prefixItems" in full:
        return {}
    item = _plain(_unwrapped(items, behind), items)
    if not item:
        return {}
    if item.get("type") == "string" and not item.keys() & {"enum", "const", "format", "pattern"}:
        # Commas part items too, and a bracket begins a list in JSON.
        item = {**item, "pattern": _NO_COMMA, "minLength": max(1, item.get("minLength", 0))}
    found = {**full, "items": item}
    if needed:
        found["minItems"] = max(1, full.get("minItems", 0))  # none at all is not given
    return found
