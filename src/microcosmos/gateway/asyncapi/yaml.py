"""JSON values as YAML: blocks of indented lines, texts between quotes where they need them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# What no reader of YAML takes for anything but a text.
_PLAIN = re.compile(r"[A-Za-z$/][A-Za-z0-9_./$+-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def write(value: Any) -> str:
    """A value as a document of YAML."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> Iterator[str]:
    match value:
        case dict() if value:
            for key, inner in value.items():
                yield from _entry(f"{indent}{_scalar(key)}:", inner, indent)
        case list() if value:
            for inner in value:
                yield from _entry(f"{indent}-", inner, indent)
        case _:
            yield f"{indent}{_scalar(value)}"


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _block(value, f"{indent}  ")
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # JSON's scalars and empty collections are YAML's; its readers differ on bare DEL and the like.
    return json.dumps(value, ensure_ascii=True)
