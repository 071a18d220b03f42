"""Python code as formatters lay it out: on one line where it fits, else one item a line."""

from __future__ import annotations

import keyword
import math
from typing import Any

import msgspec

WIDTH = 88
"""Columns of a line; what people's formatters use unless told otherwise."""


class Group(msgspec.Struct, frozen=True):
    """Items in brackets: ``list[...]``, ``Literal[...]``, ``call(...)``."""

    open: str
    items: tuple[Code, ...]
    close: str
    joint: str = ", "

    def __str__(self) -> str:
        inside = self.joint.join(str(item) for item in self.items)
        # A union is ``A | B`` on a line, and ``Union[...]`` over several.
        return inside if self.joint == " | " else f"{self.open}{inside}{self.close}"


class Part(msgspec.Struct, frozen=True):
    """Code between a prefix and a suffix: ``name: TYPE = default``."""

    prefix: str
    code: Code
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}{self.code}{self.suffix}"


Code = str | Group | Part


def subscript(head: str, *items: Code) -> Group:
    """``head[items]``."""
    return Group(f"{head}[", items, "]")


def union(*items: Code) -> Code:
    """``A | B``."""
    return Group("Union[", items, "]", " | ") if len(items) > 1 else items[0]


def lines(prefix: str, code: Code, suffix: str = "", indent: int = 0) -> list[str]:
    """Code between a prefix and a suffix, as lines."""
    if isinstance(code, Part):
        return lines(prefix + code.prefix, code.code, code.suffix + suffix, indent)
    space = " " * indent
    flat = f"{space}{prefix}{code}{suffix}"
    if isinstance(code, str) or len(flat) <= WIDTH or not code.items:
        return [flat]
    found = [f"{space}{prefix}{code.open}"]
    # A comma after the one item of a subscript would make it a tuple.
    comma = "," if len(code.items) > 1 or code.close == ")" else ""
    for item in code.items:
        found += lines("", item, comma, indent + 4)
    return [*found, f"{space}{code.close}{suffix}"]


def exploded(prefix: str, items: list[Code], suffix: str, indent: int = 0) -> list[str]:
    """A call with one argument a line, however short."""
    space = " " * indent
    found = [f"{space}{prefix}("]
    for item in items:
        found += lines("", item, ",", indent + 4)
    return [*found, f"{space}){suffix}"]


def literal(value: Any) -> str:
    """A JSON value as an expression."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "None"
    return repr(value)


def text(value: str) -> str:
    """A text as a literal, in the quotes that need fewer escapes, nothing in it invisible."""
    quote = "'" if value.count('"') > value.count("'") else '"'
    found = [_escaped(mark, quote) for mark in value]
    return f"{quote}{''.join(found)}{quote}"


def _escaped(mark: str, quote: str) -> str:
    if mark in (quote, "\\"):
        return f"\\{mark}"
    if mark == "\n":
        return "\\n"
    if mark.isprintable():
        return mark
    code = ord(mark)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def docstring(paragraphs: list[str], indent: int) -> list[str]:
    """A docstring of such lines; none of no lines."""
    if not paragraphs:
        return []
    whole = "\n".join(paragraphs)
    if '"""' in whole or whole[0] == '"' or any(line.endswith('"') for line in paragraphs):
        paragraphs = [line.replace('"', "'") for line in paragraphs]
    escaped = [line.replace("\\", "\\\\").rstrip() for line in paragraphs]
    space = " " * indent
    if len(escaped) == 1:
        # A backslash would seem to escape the quotes; a formatter sets them apart.
        gap = " " if escaped[0].endswith("\\") else ""
        return [f'{space}"""{escaped[0]}{gap}"""']
    body = [f"{space}{line}" if line else "" for line in escaped[1:]]
    return [f'{space}"""{escaped[0]}', *body, f'{space}"""']


def legal(name: str) -> bool:
    """Whether a name can stand as it is in Python."""
    return (
        name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("__")
    )
