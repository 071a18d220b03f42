"""Programs at a real terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pexpect

TIMEOUT = 60


def spawn(argv: Sequence[str], **variables: str) -> pexpect.spawn[str]:
    """Start a program at a terminal of its own."""
    program, *args = argv
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("_MICRO", "LC_"))}
    # No terminal answers where its cursor is.
    own = {"PATH": programs, "TERM": "xterm", "LANG": "C.UTF-8", "PROMPT_TOOLKIT_NO_CPR": "1"}
    options: dict[str, Any] = {"dimensions": (50, 200), "encoding": "utf-8", "timeout": TIMEOUT}
    return pexpect.spawn(program, list(args), env={**kept, **own, **variables}, **options)
