"""Times and places in the log, as they are typed."""

from __future__ import annotations

import datetime

import click

from microcosmos.events.interface import BEGINNING, NEW, Start


def rfc3339(seconds: float) -> str:
    """A time as schedules have it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def moment(text: str, where: str) -> float:
    """A time in seconds since the epoch, of such a number or of RFC 3339.

    Raises:
        click.UsageError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        detail = f"{text[:40]!r} is no time; write it like 2026-01-31T12:00:00Z"
        raise click.UsageError(f"{where}: {detail}, or in seconds since 1970")
    return found.timestamp()


def starting(offset: str, sequence: int | None, flag: str = "--offset") -> Start:
    """Where a group begins, by the flags that say so."""
    if sequence:
        if offset != "new":
            raise click.UsageError(f"give one of {flag} and --sequence")
        return Start(sequence=sequence)
    if offset in ("new", "beginning"):
        return NEW if offset == "new" else BEGINNING
    return Start(time=moment(offset, flag))
