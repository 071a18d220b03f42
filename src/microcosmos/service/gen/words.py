"""Names and texts of generated code: legal, unique and harmless, whatever a schema says."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Container

from microcosmos.base import names

LONGEST = 60
"""Characters of a generated name; a longer one is cut."""

_MODULES = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\.(?=[A-Za-z_])")
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def type_name(text: str) -> str:
    """``Page[shop.Item | None]`` is ``PageItemNone``: letters and digits, a capital first."""
    parts = re.split(r"[^A-Za-z0-9]+", _MODULES.sub("", text))
    name = "".join(part[:1].upper() + part[1:] for part in parts)[:LONGEST]
    return name if name[:1].isalpha() else f"Type{name}"


def identifier(text: str) -> str:
    """A text as an identifier, without a look at reserved words."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)[:LONGEST].lstrip("_")
    return name if name[:1].isalpha() else f"field_{name}".rstrip("_")


def snake(word: str) -> str:
    """``ListUsers`` is ``list_users``, ``ReadURL`` is ``read_url``."""
    return re.sub(r"_+", "_", _BOUNDARY.sub("_", identifier(word))).lower()


def method_words(service: str, endpoint: str) -> str:
    """``ListUsers`` of the service's own handler, ``OtherThing`` of another one's ``Thing``."""
    handler, _, method = endpoint.rpartition(".")
    own = not handler or handler == names.handler_of(service)
    return names.camel(method) if own else names.camel(handler) + names.camel(method)


def unique(name: str, taken: Container[str], instead: str = "") -> str:
    """The name, or ``instead``, or either with a number: what is not taken yet."""
    for candidate in (name, instead):
        if candidate and candidate not in taken:
            return candidate
    number = 2
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def prose(text: str, width: int) -> list[str]:
    """A description as lines: paragraphs wrapped, nothing in it but what can be seen."""
    lines = inspect.cleandoc(re.sub(r"[\r\x0b\x0c\x85\u2028\u2029]+", "\n", text)).split("\n")
    shown = ["".join(mark if mark.isprintable() else " " for mark in line) for line in lines]
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(line.rstrip() for line in shown).strip()):
        if found:
            found.append("")
        for line in _paragraph(paragraph):
            found += textwrap.wrap(line, width, break_on_hyphens=False) or [""]
    return found if any(found) else []


def _paragraph(text: str) -> list[str]:
    """One line, or those that are set apart: lists and indented ones."""
    lines: list[str] = []
    for line in text.split("\n"):
        apart = not lines or re.match(r"\s|[-*•] |\d+[.)] ", line)
        if apart:
            lines.append(line.strip())
        else:
            lines[-1] += " " + line.strip()
    return lines
