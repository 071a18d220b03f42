"""Docstrings in Google's form: what a thing is, and what each of its fields means."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_SECTION = re.compile(r"^(Args|Arguments|Attributes|Raises|Returns|Yields):\s*$", re.MULTILINE)
_OF_FIELDS = frozenset({"Args", "Arguments", "Attributes"})
_FIELD = re.compile(r"^(\s+)(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


class Docstring(NamedTuple):
    """The text before the sections, and the texts of fields by name."""

    text: str
    fields: dict[str, str]


def parse(doc: str | None) -> Docstring:
    """Read a docstring; none is an empty one."""
    first, *sections = _SECTION.split(inspect.cleandoc(doc or ""))
    fields: dict[str, str] = {}
    for name, lines in zip(sections[::2], sections[1::2], strict=True):
        if name in _OF_FIELDS:
            fields |= _fields(lines)
    return Docstring(first.strip(), fields)


def _fields(section: str) -> dict[str, str]:
    """``name: text`` of a section's own indent; what is indented deeper goes on with the text."""
    texts: dict[str, list[str]] = {}
    indent, name = "", ""
    for line in section.splitlines():
        found = _FIELD.match(line)
        if found and (not indent or found[1] == indent):
            indent, name = found[1], found[2]
            texts[name] = [found[3]]
        elif name and line.startswith(indent + " "):
            texts[name].append(line.strip())
        elif line.strip():
            break
    return {name: " ".join(filter(None, lines)) for name, lines in texts.items()}
