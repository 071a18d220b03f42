"""What the schemas of a service say beyond its shapes: what must be there, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from microcosmos.registry.interface import Description


class Notes:
    """Notes on structs and their fields, by name.

    Args:
        descriptions: the versions of a service, with the schemas of their endpoints.
    """

    def __init__(self, descriptions: Iterable[Description] = ()) -> None:
        self._required: dict[str, set[str]] = {}
        self._about: dict[tuple[str, str], str] = {}
        for description in descriptions:
            for endpoint in description.endpoints:
                for name, struct in _structs(endpoint.schema):
                    self._note(name, struct)

    def _note(self, name: str, struct: dict[str, Any]) -> None:
        required = set(filter(_is_text, _of(struct, "required", list)))
        # Of two structs under one name, what both want.
        self._required[name] = self._required.get(name, required) & required
        self._tell((name, ""), struct)
        for field, schema in _of(struct, "properties", dict).items():
            if isinstance(schema, dict):
                self._tell((name, field), schema)

    def _tell(self, what: tuple[str, str], schema: dict[str, Any]) -> None:
        if text := _of(schema, "description", str):
            self._about.setdefault(what, text)

    def required(self, struct: str) -> set[str]:
        """The fields that a struct must have."""
        return self._required.get(struct, set())

    def about(self, struct: str, field: str = "") -> str:
        """What a struct or a field of it is, in the words of its author; empty if unknown."""
        return self._about.get((struct, field), "")


def _structs(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The structs that an endpoint's schema names."""
    named = _of(schema, "$defs", dict)
    roots = {word: schema.get(word) for word in ("request", "items", "response")}
    for struct in (*named.values(), *roots.values()):
        if isinstance(struct, dict) and (title := _of(struct, "title", str)):
            yield title, struct


def _of(schema: dict[str, Any], word: str, kind: type) -> Any:
    """What stands under a word, if it is what it should be: schemas may be anybody's."""
    found = schema.get(word)
    return found if isinstance(found, kind) else kind()


def _is_text(value: object) -> bool:
    return isinstance(value, str)
