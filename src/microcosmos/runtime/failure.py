"""What keeps a service from running: one line for `micro status`, and the output behind it."""

from __future__ import annotations

_LONGEST = 300


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
