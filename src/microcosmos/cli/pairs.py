"""Names and values as flags take them: ``--env_vars A=1 --env_vars B=2``, or ``A=1,B=2``."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

# A comma parts two pairs only where a name and an equals sign follow: values may have commas.
_BETWEEN = re.compile(r",(?=[A-Za-z_][A-Za-z0-9_.-]*=)")


def parse(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """Read the pairs of a flag.

    Raises:
        click.UsageError: one of them has no name or no value; the text names the flag.
    """
    found: dict[str, str] = {}
    for text in texts:
        for pair in _BETWEEN.split(text):
            name, equals, value = pair.partition("=")
            if not equals or not name:
                raise click.UsageError(f"{flag}: {pair[:40]!r} is not of the form name=value")
            found[name] = value
    return found
