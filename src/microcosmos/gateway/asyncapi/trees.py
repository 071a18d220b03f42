"""Schemas on the page: a tree of fields, each with its type, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

Schema = dict[str, Any]

DEEPEST = 12
"""How deep a tree goes; of a type that is made of itself one round is shown."""

LARGEST = 2000
"""The most fields of a tree; the rest is told as left out."""

_PLACE = "#/components/schemas/"
_SAID = {
    "format": "{}",
    "contentEncoding": "{}",
    "pattern": "matches {}",
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} names",
    "maxProperties": "at most {} names",
}


class Trees:
    """Draws schemas as HTML.

    Args:
        schemas: those that references lead to, by name.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._drawn = 0

    def draw(self, schema: Any) -> str:
        """A schema as a list of its fields, or one line if it has none."""
        self._drawn = 0
        full = self._behind(schema)
        line = f'<p class="type">{self._line(schema)}</p>'
        return line + self._below(full, (self._name(schema),))

    def _behind(self, schema: Any) -> Schema:
        """What references lead to, with what stands beside them."""
        seen: set[str] = set()
        while isinstance(schema, dict) and (name := self._name(schema)) and name not in seen:
            seen.add(name)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            target = self._schemas.get(name)
            schema = {**target, **beside} if isinstance(target, dict) else beside
        return schema if isinstance(schema, dict) else {}

    def _name(self, schema: Any) -> str:
        place = schema.get("$ref") if isinstance(schema, dict) else None
        return place.removeprefix(_PLACE) if isinstance(place, str) else ""

    def _below(self, schema: Schema, path: tuple[str, ...]) -> str:
        """What is inside of a value: fields, items, choices."""
        self._drawn += 1
        if len(path) > DEEPEST or self._drawn > LARGEST:
            return '<p class="soft">… and so on</p>'
        rows: list[str] = []
        required = schema.get("required") or ()
        for name, field in (schema.get("properties") or {}).items():
            rows.append(self._row(name, field, path, needed=name in required))
        if isinstance(more := schema.get("additionalProperties"), dict) and more:
            rows.append(self._row("any other name", more, path, quiet=True))
        for at, item in enumerate(schema.get("prefixItems") or ()):
            rows.append(self._row(f"item {at + 1}", item, path, quiet=True))
        if isinstance(items := schema.get("items"), dict) and self._has_parts(items):
            rows.append(self._row("each item", items, path, quiet=True))
        for word in ("anyOf", "oneOf", "allOf"):
            rows += self._choices(schema, word, path)
        return f'<ul class="tree">{"".join(rows)}</ul>' if rows else ""

    def _choices(self, schema: Schema, word: str, path: tuple[str, ...]) -> list[str]:
        options = [one for one in schema.get(word) or () if self._has_parts(one)]
        said = "and" if word == "allOf" else "either"
        return [self._row(said, one, path, quiet=True) for one in options]

    def _has_parts(self, schema: Any) -> bool:
        full = self._behind(schema)
        words = ("properties", "items", "prefixItems", "anyOf", "oneOf", "allOf")
        return any(full.get(word) for word in words) or bool(
            isinstance(full.get("additionalProperties"), dict)
        )

    def _row(
        self,
        name: str,
        schema: Any,
        path: tuple[str, ...],
        *,
        needed: bool = False,
        quiet: bool = False,
    ) -> str:
        mark = ' <b class="needed" title="always there">*</b>' if needed else ""
        shown = f'<i class="soft">{escape(name)}</i>' if quiet else f"<code>{escape(name)}</code>"
        head = f'{shown}{mark} <span class="type">{self._line(schema)}</span>'
        of = self._name(schema)
        if of and of in path:
            return f'<li>{head} <span class="soft">(as above)</span></li>'
        below = self._below(self._behind(schema), (*path, of))
        about = self._behind(schema).get("description")
        said = f'<p class="soft">{escape(about)}</p>' if isinstance(about, str) else ""
        if not below:
            return f"<li>{head}{said}</li>"
        return f"<li><details open><summary>{head}</summary>{said}{below}</details></li>"

    def _line(self, schema: Any) -> str:
        """A schema in a few words, as HTML."""
        full = self._behind(schema)
        said = [escape(self._kind(schema))]
        if isinstance(values := full.get("enum"), list):
            said.append(" | ".join(f"<code>{_json(value)}</code>" for value in values))
        if "const" in full:
            said.append(f"<code>{_json(full['const'])}</code>")
        said += [escape(form.format(full[word])) for word, form in _SAID.items() if word in full]
        if full.get("default") is not None:
            said.append(f"else <code>{_json(full['default'])}</code>")
        return ", ".join(filter(None, said))

    def _kind(self, schema: Any, depth: int = 0) -> str:
        """What a value is: ``text or null``, ``list of Line``."""
        if depth > DEEPEST or not isinstance(schema, dict):
            return "anything" if schema is not False else "nothing"
        if name := self._name(schema):
            target = self._schemas.get(name)
            record = isinstance(target, dict) and ("properties" in target or "enum" in target)
            return name if record else self._kind(target, depth + 1)
        for word in ("anyOf", "oneOf"):
            if options := schema.get(word):
                return " or ".join(self._kind(one, depth + 1) for one in options)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return " or ".join(self._kind({**schema, "type": one}, depth + 1) for one in kinds)
        if kinds == "array":
            items = schema.get("items")
            return f"list of {self._kind(items, depth + 1)}" if items else "list"
        if kinds == "object" or "properties" in schema:
            return _object(schema, self, depth)
        return "" if "enum" in schema or "const" in schema else _WORDS.get(str(kinds), "anything")


_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def _object(schema: Schema, trees: Trees, depth: int) -> str:
    more = schema.get("additionalProperties")
    if "properties" not in schema and isinstance(more, dict):
        return f"map of {trees._kind(more, depth + 1)}"
    title = schema.get("title")
    return title if isinstance(title, str) else "object"


def _json(value: Any) -> str:
    return escape(json.dumps(value, ensure_ascii=False))
