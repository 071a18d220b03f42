"""Records of a model as Python structs, as source text."""

from __future__ import annotations

import keyword
from collections.abc import Collection

import msgspec

from . import layout, python_types, words
from .layout import Code, Group
from .model import Field, Model, Record
from .python_types import NAMES, Imports, Types

BUILTINS = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str", "tuple"})
"""Names that fields and methods may hide."""

MODULES = frozenset({"builtins", "dt", "msgspec"})
"""Names of modules that generated ones may import."""


class Records:
    """Writes records as structs.

    Args:
        model: whose.
        imports: collects what the structs need.
        types: writes their annotations.
    """

    def __init__(self, model: Model, imports: Imports, types: Types) -> None:
        self._model = model
        self._imports = imports
        self._types = types
        self._taken = {*NAMES, *model.records, *model.aliases, model.client, *MODULES}

    def declarations(self) -> list[str]:
        """All of the model's choices and records."""
        body: list[str] = []
        for alias in self._model.aliases.values():
            self._imports.name("typing", "TypeAlias")
            body += [*comment(alias.about), *python_types.alias(self._types, alias), ""]
        for record in self._model.records.values():
            body += ["", *self.lines(record), ""]
        return body

    def lines(self, record: Record) -> list[str]:
        """A record."""
        self._imports.module("msgspec")
        options: list[Code] = ["msgspec.Struct", "kw_only=True"]
        if record.tag:
            options += [f"tag_field={layout.text(record.tag)}", f"tag={self._tag(record)}"]
        lines = layout.lines(f"class {record.name}", Group("(", tuple(options), ")"), ":")
        names = self.names(record)
        about = words.prose(record.about, 80)
        told = [] if record.parameters else self.told(record)
        documented = layout.docstring([*about, *listed("Attributes", told, after=about)], 4)
        hidden = frozenset(names.values()) & BUILTINS
        fields: list[str] = []
        for field in record.fields:
            if field.name != record.tag:
                fields += self._field(record, field, names[field.name], hidden)
        gap = [""] if documented and fields else []
        return [*lines, *documented, *gap, *(fields or ([] if documented else ["    pass"]))]

    def _tag(self, record: Record) -> str:
        field = record.field(record.tag)
        values = getattr(field.type if field else None, "values", ("",))
        return layout.literal(values[0])

    def told(self, record: Record) -> list[tuple[str, str]]:
        """The attributes of a record of which something is said, and what."""
        names = self.names(record)
        return [
            (names[field.name], field.about)
            for field in record.fields
            if field.about and field.name != record.tag
        ]

    def names(self, record: Record) -> dict[str, str]:
        """The attribute of each field."""
        names: dict[str, str] = {}
        used: set[str] = set()
        for field in record.fields:
            name = field.name if layout.legal(field.name) else words.identifier(field.name)
            name = name.lstrip("_") or "field"
            if keyword.iskeyword(name) or name in self._taken or name == "self":
                name += "_"
            names[field.name] = name = words.unique(name, used)
            used.add(name)
        return names

    def _field(self, record: Record, field: Field, name: str, hidden: frozenset[str]) -> list[str]:
        kind, given = self.with_default(record, field, hidden)
        if name != field.name:
            options: list[Code] = [f"name={layout.text(field.name)}"]
            if given == "[]":
                options.append(f"default_factory={self._types.builtin('list', hidden)}")
            elif given == "{}":
                options.append(f"default_factory={self._types.builtin('dict', hidden)}")
            elif given:
                options.append(f"default={given}")
            call = Group("msgspec.field(", tuple(options), ")")
            head = f"    {name}: {kind} = "
            return layout.lines(head, call) if len(str(kind)) < 40 else self._long(name, kind, call)
        return layout.lines(f"{name}: ", kind, f" = {given}" if given else "", 4)

    def _long(self, name: str, kind: Code, call: Group) -> list[str]:
        *lines, last = layout.lines(f"{name}: ", kind, "", 4)
        return [*lines, *layout.lines(f"{last} = ", call)]

    def with_default(
        self, record: Record, field: Field, hidden: frozenset[str] = frozenset()
    ) -> tuple[Code, str]:
        """The annotation and the default; no default is empty."""
        kind = self._types.code(field.type, hidden)
        if field.required:
            return kind, ""
        value = python_types.default(self._model, field, mutable=not record.parameters)
        if value is msgspec.UNSET:
            self._imports.name("msgspec", "UNSET", "UnsetType")
            return self._types.joined(kind, "UnsetType"), "UNSET"
        return kind, layout.literal(value)


def comment(about: str) -> list[str]:
    """What is said of something, as lines of comment."""
    return [f"# {line}".rstrip() for line in words.prose(about, 80)]


def listed(title: str, told: list[tuple[str, str]], after: Collection[str] = ()) -> list[str]:
    """A section of a docstring: names and what is said of them."""
    found: list[str] = []
    for name, about in told:
        first, *more = words.prose(f"{name}: {about}", 72) or [name]
        found += [f"    {first}", *(f"        {line}" if line else "" for line in more)]
    if not found:
        return []
    return [*([""] if after else []), f"{title}:", *found]
