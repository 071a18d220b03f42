"""What a command returns, as a table for people or as JSON for programs."""

from __future__ import annotations

import datetime
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from microcosmos.base import codec

from . import durations

GAP = "  "
_NOTHING = "n/a"


def lines(value: Any, output: str = "table") -> Iterator[str]:
    """The lines to print for what a command returned.

    Bytes are an answer's JSON and stay JSON; an iterator is printed as it goes; a list of structs
    is a table under the names of their fields; a value with a method ``readable`` knows by itself
    how it reads. With ``output`` json everything is JSON.
    """
    if isinstance(value, bytes):
        yield answer(value)
    elif isinstance(value, Iterator):
        for item in value:
            yield plain(item) if output == "table" else _compact(item)
    elif value is not None and output == "json":
        yield codec.indent(codec.encode(value))
    elif value is not None:
        yield from _readable(value)


def _readable(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif hasattr(value, "readable"):
        yield value.readable()
    elif isinstance(value, list | tuple):
        structs = value and isinstance(value[0], msgspec.Struct)
        yield from table(value) if structs else map(plain, value)
    else:
        yield codec.indent(codec.encode(value))


def answer(data: bytes) -> str:
    """A service's answer as indented JSON; what a foreign service calls JSON may be none."""
    try:
        return codec.indent(data)
    except codec.DECODE_ERRORS:
        return data.decode("utf-8", "replace")


def _compact(item: Any) -> str:
    """One line of JSON; a message of a stream is JSON already."""
    if not isinstance(item, bytes):
        return codec.encode(item).decode()
    try:
        return msgspec.json.format(item, indent=-1).decode()
    except codec.DECODE_ERRORS:
        return one_line(item.decode("utf-8", "replace"))


def plain(item: Any) -> str:
    """An item of a list or a stream, for people."""
    if isinstance(item, bytes):
        return answer(item)
    if isinstance(item, str):
        return item
    return item.readable() if hasattr(item, "readable") else codec.encode(item).decode()


def table(rows: Sequence[msgspec.Struct], heading: bool = True) -> Iterator[str]:
    """Aligned columns, two spaces apart, under the upper-cased names of the fields.

    Rows that have a method ``cells`` say themselves what stands in them, and in ``HEADINGS`` what
    stands above.
    """
    fields = rows[0].__struct_fields__
    headings = getattr(rows[0], "HEADINGS", None) or [field.upper() for field in fields]
    cells = [_cells(row) for row in rows]
    return columns([headings, *cells] if heading else cells)


def _cells(row: msgspec.Struct) -> list[str]:
    own = getattr(row, "cells", None)
    values = own() if own else [getattr(row, field) for field in row.__struct_fields__]
    return [cell(value) for value in values]


def columns(rows: Iterable[Sequence[str]], gap: str = GAP) -> Iterator[str]:
    """Texts below each other, each column as wide as its widest cell."""
    kept = [[one_line(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    for row in kept:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield gap.join(padded).rstrip()


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, datetime.datetime):
        return f"{durations.show(time.time() - value.timestamp())} ago"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or _NOTHING
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or _NOTHING
    return str(value)


def one_line(text: str) -> str:
    """Text that cannot break a line or steer a terminal, whoever wrote it."""
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(mark for mark in spaced if unicodedata.category(mark) != "Cc")
