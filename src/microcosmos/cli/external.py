"""Programs called ``micro-<word>`` on PATH: they extend the command line, in any language."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence

import click

_PREFIX = "micro-"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def words() -> list[str]:
    """The words that programs on PATH add, sorted."""
    found: set[str] = set()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            found.update(entry.name for entry in entries if entry.name.startswith(_PREFIX))
    return sorted(name.removeprefix(_PREFIX) for name in found if _WORD.fullmatch(name))


def replace_by(word: str, args: Sequence[str]) -> None:
    """Become the program of a word; return only if there is none."""
    if program := _program(word):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(program, [program, *args])


def run(word: str, args: Sequence[str]) -> None:
    """Run the program of a word and exit as it does; return only if there is none.

    Raises:
        click.exceptions.Exit: with its exit code.
    """
    if program := _program(word):
        raise click.exceptions.Exit(wait_for([program, *args]))


def wait_for(argv: Sequence[str]) -> int:
    """Run a program in the foreground; its exit code, above 128 for the signal that ended it.

    Ctrl-C is the program's to understand.
    """
    import signal
    import subprocess

    # A handler, not SIG_IGN: the program would inherit that.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.Popen(argv).wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _program(word: str) -> str | None:
    if not _WORD.fullmatch(word):
        return None
    from shutil import which

    return which(_PREFIX + word)
