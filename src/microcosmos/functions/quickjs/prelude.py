"""The text that every context begins with, read when this is imported."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from .limits import LOG_LINES, OPERATIONS

_FOLDER = Path(__file__).parent / "prelude"

GLOBALS = {
    "URL": "url",
    "URLSearchParams": "url",
    "TextEncoder": "encoding",
    "TextDecoder": "encoding",
    "Headers": "fetch",
    "Response": "fetch",
    "fetch": "fetch",
    "console": "console",
    "crypto": "crypto",
    "setTimeout": "timers",
    "setInterval": "timers",
    "clearTimeout": "timers",
    "clearInterval": "timers",
}
"""What functions find beside the language itself, and the part that has it.

A part is evaluated when one of its names is first looked at; until then it is only its text.
"""

BELOW = 10_000
"""Empty lines before the prelude, so that its own frames in a trace are told from others."""

LINES = 2_000
"""Lines that the prelude, and each of its parts, has at most."""

_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_BLANKS = re.compile(r"\n\s*")


def _read(name: str) -> str:
    text = (_FOLDER / f"{name}.js").read_text("utf-8")
    return _BLANKS.sub("\n", _COMMENT.sub("", text)).strip()


_PARTS = {name: _read(name) for name in (*GLOBALS.values(), "body", "env", "replay", "script")}

PARTS = "".join(_PARTS.values())
"""The texts of all parts, one behind the other."""


def _places() -> dict[str, dict[str, int]]:
    """Where in `PARTS` each begins and ends."""
    ends = list(itertools.accumulate(map(len, _PARTS.values())))
    begins = [0, *ends]
    return {
        name: {"begin": begin, "end": end}
        for name, begin, end in zip(_PARTS, begins, ends, strict=False)
    }


def _realm() -> str:
    limits = {"operations": OPERATIONS, "lines": LOG_LINES, "below": BELOW, "parts": _places()}
    given = f"{json.dumps(limits)}, {json.dumps(GLOBALS)}"
    return "\n" * BELOW + f"(parts) => {_read('realm')}({given}, parts)"


REALM = _realm()
"""Evaluates to a function that, given `PARTS`, makes what gives entries by their names."""
