"""What keeps a service from running: one line for `micro status`, and the output behind it."""

from __future__ import annotations

import re

_LONGEST = 300

# Node ends with its own version, and tells the error before the stack.
_NODE = re.compile(r"Node\.js v\d")
_ERROR = re.compile(r"(Uncaught )?\w*Error\b[^:]*: \S")


class Failure(Exception):
    """A fetch, a build or a start that did not succeed.

    Args:
        line: the cause, for the ERROR of `micro status`.
        output: the last lines that the program wrote.
    """

    def __init__(self, line: str, output: list[str] | None = None) -> None:
        super().__init__(line)
        self.line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
        self.output = output or []


def last_words(output: list[str]) -> str:
    """The line of a program's last ones that says why it ended; empty if there is none."""
    if not output:
        return ""
    last = output[-1].strip()
    if _NODE.match(last):
        told = [line.strip() for line in output if _ERROR.match(line.strip())]
        return told[-1] if told else last
    return last
