"""Durations as people type and read them: ``1m30s``, ``20h43m45s``."""

from __future__ import annotations

import re

import click

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS["d"] = 24 * _UNITS["h"]
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_LONGEST_TEXT = 32


def parse(text: str, where: str) -> float:
    """The seconds of ``5s``, ``1m30s``, ``500ms``; a bare number is seconds.

    Raises:
        click.UsageError: it is no duration; the text names ``where``.
    """
    found = _PART.findall(text if len(text) <= _LONGEST_TEXT else "")
    if found and "".join(number + unit for number, unit in found) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in found)
    if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_TEXT:
        return float(text)
    raise click.UsageError(f"{where}: {text[:40]!r} is no duration; write it like 5s or 1m30s")


def show(seconds: float) -> str:
    """``20h43m45s``: whole seconds, hours as the largest unit, as Micro shows them."""
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    if hour:
        return f"{hour}h{minute}m{second}s"
    return f"{minute}m{second}s" if minute else f"{second}s"
