"""What is asked at the terminal: names, and secrets that are not shown."""

from __future__ import annotations

import sys

import click

STDIN = "-"
"""In place of a secret: it is the next line of the standard input."""


def asked(label: str, flag: str, *, hidden: bool = False) -> str:
    """What somebody types after a label.

    Raises:
        click.UsageError: there is no terminal; the text names the flag.
        click.Abort: Ctrl-C or Ctrl-D.
    """
    if not sys.stdin.isatty():
        more = f", or `{flag} -` to read it from the standard input" if hidden else ""
        raise click.UsageError(f"there is no terminal to ask at; give {flag}{more}")
    found: str = click.prompt(label, hide_input=hidden)
    return found


def secret(given: str, label: str, flag: str) -> str:
    """A secret: as given, from the standard input when that is `STDIN`, else asked for.

    Raises:
        click.UsageError: there is no terminal, or nothing comes from the standard input.
    """
    if not given:
        return asked(label, flag, hidden=True)
    return from_input(flag) if given == STDIN else given


def from_input(flag: str) -> str:
    """The next line of the standard input.

    Raises:
        click.UsageError: there is none, or it is empty.
    """
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError(f"{flag} -: the standard input has no line for it")
    return line
