"""Moments as authors say them: a `datetime` with a zone, or seconds since the epoch."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from microcosmos.base import errors

from .checks import check_start, check_time
from .interface import BEGINNING, NEW, Start

Moment = datetime | float
"""A time: with a zone, or in seconds since the epoch."""

Offset = Literal["new", "beginning"] | datetime | float
"""Where a group begins: with the next event, with the first one, or with those since a moment."""


def seconds(moment: Moment) -> float:
    """A moment in seconds since the epoch.

    Raises:
        errors.BadRequest: it has no zone, or is none.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise errors.BadRequest("events", f"{moment} has no zone; give it one, such as UTC")
        moment = moment.timestamp()
    if isinstance(moment, bool | str) or not isinstance(moment, int | float):
        detail = f"{moment!r:.60} is neither `new`, nor `beginning`, nor a time"
        raise errors.BadRequest("events", detail)
    return check_time("a time", float(moment))


def starting(offset: Offset = "new", sequence: int = 0) -> Start:
    """Where a group begins.

    Raises:
        errors.BadRequest: that is no place.
    """
    if sequence:
        if offset != "new":
            raise errors.BadRequest("events", "a group begins at one of: offset, sequence")
        return check_start(Start(sequence=sequence))
    if offset == "new":
        return NEW
    if offset == "beginning":
        return BEGINNING
    return Start(time=seconds(offset))
