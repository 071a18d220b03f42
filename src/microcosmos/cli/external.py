"""Programs called ``micro-<word>`` on PATH: they extend the command line, in any language."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def replace_by(word: str, args: Sequence[str]) -> None:
    """Become the program of a word; return only if there is none."""
    if not _WORD.fullmatch(word):
        return
    from shutil import which

    program = which(f"micro-{word}")
    if program is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, [program, *args])
