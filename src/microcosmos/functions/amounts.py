"""Amounts as people write and read them: seconds as ``100ms``, bytes as ``64MiB``, and numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from microcosmos.base import errors

Measure = Literal["seconds", "bytes", "number"]
"""What an amount is of."""

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
_UNITS: Mapping[Measure, Mapping[str, float]] = {
    "seconds": _SECONDS,
    "bytes": _BYTES,
    "number": {"": 1.0},
}
_WAYS = {"seconds": "100ms or 30s", "bytes": "64MiB or 512KiB", "number": "50"}
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([A-Za-zµ]{0,3})", re.ASCII)


def read(text: str, measure: Measure, where: str) -> float:
    """The amount that a text says; without a unit it is seconds, bytes or a number.

    Raises:
        errors.BadRequest: it says none; the detail begins with ``where``.
    """
    found = _AMOUNT.fullmatch(text.strip().replace("_", "").replace("\u03bc", "µ"))
    if found:
        units = {unit.lower(): size for unit, size in _UNITS[measure].items()}
        size = units.get(found[2].lower()) if found[2] else 1.0
        if size is not None:
            amount = float(found[1]) * size
            # Of bytes there are no parts.
            return float(int(amount)) if measure == "bytes" else amount
    raise errors.BadRequest(
        "functions", f"{where}: {text[:40]!r} is no amount; write it like {_WAYS[measure]}"
    )


def show(amount: float, measure: Measure) -> str:
    """An amount for people: ``50 ms``, ``64 MiB``, ``1,000``."""
    if measure == "number":
        return f"{int(amount):,}"
    if measure == "bytes":
        for unit in ("GiB", "MiB", "KiB"):
            if amount >= _BYTES[unit]:
                return f"{_short(amount / _BYTES[unit])} {unit}"
        return f"{int(amount):,} bytes" if amount != 1 else "1 byte"
    if 0 < amount < 1:
        return f"{_short(amount * 1000)} ms"
    return f"{_short(amount)} s"


def written(amount: float, measure: Measure) -> str:
    """An amount as a flag takes it: ``50ms``, ``64MiB``, ``1000``; to the bit, unlike `show`."""
    if measure == "number":
        return f"{int(amount)}"
    if measure == "bytes":
        for unit in ("GiB", "MiB", "KiB"):
            if amount >= _BYTES[unit] and not amount % _BYTES[unit]:
                return f"{int(amount / _BYTES[unit])}{unit}"
        return f"{int(amount)}B"
    return f"{amount * 1000:.10g}ms" if 0 < amount < 1 else f"{amount:.10g}s"


def _short(amount: float) -> str:
    """Four digits at most, never more than there is."""
    digits = max(0, 3 - int(math.log10(amount))) if amount >= 1 else 4
    scale = 10**digits
    return f"{math.floor(amount * scale + 1e-6) / scale:,.10g}"
