"""Schemas as their writers have to keep them: nothing is written that is not declared.

JSON Schema lets an object have any property beside those it speaks of. Who reads by a later version
may know such a property, as something else; so that what is compatible stays so, a dict that is
published has no properties but those that its schema declares. ``additionalProperties`` allows
others, and an object without ``properties`` is a map of any.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

_MAPS = ("properties", "patternProperties")
_SINGLE = ("additionalProperties", "items", "additionalItems", "contains", "propertyNames")
_INSIDE = (*_MAPS, *_SINGLE, "prefixItems")
_BRANCHES = ("anyOf", "oneOf")
_CLOSED = "closed:"


def closed(schema: Any) -> Any:
    """The schema that a writer by this one has to keep.

    Before 2019-09 there was no way to say it; such a schema is as it was.
    """
    named = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(schema, dict) or "draft-0" in named:
        return schema
    return _Closing(schema).whole()


class _Closing:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._defs: dict[str, Any] = {}

    def whole(self) -> dict[str, Any]:
        found: dict[str, Any] = self._place(self._root)
        if self._defs:
            found["$defs"] = {**found.get("$defs", {}), **self._defs}
        return found

    def _place(self, schema: Any) -> Any:
        """The schema of a place where a value stands."""
        if not isinstance(schema, dict):
            return schema
        # What several say of one property holds together: none of them alone says all of it.
        found = dict(schema) if self._speaking(schema) > 1 else self._inside(schema)
        if self._says_any(schema, _MAPS):
            found.setdefault("unevaluatedProperties", False)
        elif self._says_any(schema, ("prefixItems",)) and not self._says_any(schema, ("items",)):
            found.setdefault("unevaluatedItems", False)
        else:
            for keyword in _BRANCHES:
                if keyword in schema:
                    found[keyword] = [self._place(one) for one in schema[keyword]]
            if isinstance(pointer := schema.get("$ref"), str):
                found["$ref"] = self._closed_at(pointer)
        return found

    def _speaking(self, schema: dict[str, Any]) -> int:
        """How many of the schemas that hold together speak of what is inside."""
        parts: list[Any] = [{key: one for key, one in schema.items() if key in _INSIDE}]
        parts += [{"$ref": schema["$ref"]}] if "$ref" in schema else []
        parts += schema.get("allOf", ())
        parts += [{keyword: schema[keyword]} for keyword in _BRANCHES if keyword in schema]
        return sum(self._says_any(one, _INSIDE, ("allOf", *_BRANCHES)) for one in parts)

    def _says_any(
        self, schema: Any, keywords: tuple[str, ...], by: tuple[str, ...] = ("allOf",)
    ) -> bool:
        return any(self._says(schema, keyword, by, frozenset()) for keyword in keywords)

    def _inside(self, schema: Any) -> Any:
        """A schema whose own value is judged elsewhere, with the places inside of it."""
        if not isinstance(schema, dict):
            return schema
        found = dict(schema)
        for keyword in _MAPS:
            if isinstance(inner := schema.get(keyword), dict):
                found[keyword] = {name: self._place(one) for name, one in inner.items()}
        for keyword in _SINGLE:
            if keyword in schema:
                found[keyword] = self._place(schema[keyword])
        if "prefixItems" in schema:
            found["prefixItems"] = [self._place(one) for one in schema["prefixItems"]]
        for keyword in ("allOf", *_BRANCHES):
            if keyword in schema:
                found[keyword] = [self._inside(one) for one in schema[keyword]]
        if isinstance(pointer := schema.get("$ref"), str):
            found["$ref"] = self._closed_at(pointer, inside=True)
        return found

    def _closed_at(self, pointer: str, *, inside: bool = False) -> str:
        """A reference to the same, closed; ``inside`` leaves the value itself to who refers."""
        name = f"{_CLOSED}{'in' if inside else 'at'}:{pointer}"
        if name not in self._defs:
            self._defs[name] = True  # it may be made of itself
            target = self._target(pointer)
            self._defs[name] = self._inside(target) if inside else self._place(target)
        return "#/$defs/" + quote(name.replace("~", "~0").replace("/", "~1"))

    def _target(self, pointer: str) -> Any:
        # Here, because the shapes of schemas take long to import, and few schemas are closed.
        from .side import Side

        target = Side(self._root, reading=False).at(pointer)
        if target is self._root:
            return {name: one for name, one in target.items() if name not in ("$defs", "$schema")}
        return target

    def _says(self, schema: Any, keyword: str, by: tuple[str, ...], seen: frozenset[str]) -> bool:
        """Whether a schema has a keyword, itself or by what it is made of."""
        if not isinstance(schema, dict):
            return False
        parts = [one for group in by for one in schema.get(group, ())]
        if keyword in schema or any(self._says(one, keyword, by, seen) for one in parts):
            return True
        pointer = schema.get("$ref")
        if not isinstance(pointer, str) or pointer in seen:
            return False
        return self._says(self._target(pointer), keyword, by, seen | {pointer})
