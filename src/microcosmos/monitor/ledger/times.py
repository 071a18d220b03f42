"""Times as people say them: so long ago, a date, or RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from microcosmos.base import errors

from . import keys

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": keys.HOUR, "d": keys.DAY, "w": 7 * keys.DAY}


def parse(text: str, now: float, id: str) -> float:
    """A time in seconds since the epoch; 0 for an empty text.

    Raises:
        errors.BadRequest: it is no time, or none that has been; the detail says how to write one.
    """
    if not text:
        return 0.0
    if found := _AGO.fullmatch(text):
        return max(now - int(found[1]) * _UNITS[found[2]], 1.0)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        detail = f"since: {text[:40]!r} is no time; write it like 24h, 7d, 2026-11-01 or "
        raise errors.BadRequest(id, f"{detail}2026-11-01T08:00:00Z") from None
    at = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if at > now:
        raise errors.BadRequest(id, f"since: {text[:40]} has not come yet")
    return max(at, 1.0)


def stamp(at: float) -> str:
    """A time in seconds since the epoch, RFC 3339."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
