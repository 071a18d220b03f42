"""Schemas of topics, read into a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from . import words
from .model import Model, Named, Type
from .reader import Reader, tell_apart

NOTE = "make it again when the schemas change."
"""What generated files say of themselves."""


class Topics(msgspec.Struct):
    """What is published on topics.

    Attributes:
        model: the records and choices; it has no methods.
        types: what each topic has, sorted by topic.
        names: those of the types that are no records or choices, which have names of their own.
    """

    model: Model
    types: dict[str, Type]
    names: dict[str, str]


def read(schemas: Mapping[str, Any], reserved: Iterable[str] = ()) -> Topics:
    """The types of topics.

    Args:
        schemas: JSON Schemas by topic.
        reserved: names of types that the language wants for itself.
    """
    reader = Reader("", {*reserved, "Topics", "TOPICS"})
    types: dict[str, Type] = {}
    names: dict[str, str] = {}
    for topic, schema in sorted(schemas.items()):
        reader.prefix = hint = words.type_name(topic.replace(".", " "))
        scope = (schema,) if isinstance(schema, dict) else ()
        types[topic] = kind = reader.type(schema, scope, hint)
        if not isinstance(kind, Named):
            names[topic] = reader.name(hint)
    tell_apart(reader, [*types.values()])
    return Topics(Model("", "", [], reader.records, reader.aliases), types, names)
