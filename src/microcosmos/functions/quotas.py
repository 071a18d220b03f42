"""Quotas: how much of a measure may be used in an hour, a day or a month, and by whom."""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args
from urllib.parse import quote as quoted
from urllib.parse import unquote

import msgspec

from microcosmos.base import errors
from microcosmos.monitor.ledger import MEASURES, Counts, Line

from . import amounts
from .amounts import Measure as Unit

Period = Literal["hour", "day", "month"]
"""What a quota is for: it begins anew with each, in UTC."""

By = Literal["admin", "owner"]
"""Who has set a quota."""

PERIODS: Sequence[Period] = get_args(Period)

SOFT = 0.8
"""The part of a quota at which an event tells of it, unless the quota says others."""

MAX_SOFT = 10
"""Parts of one quota that events tell of, at most."""

MOST = 2**53
"""The greatest quota, in the ledger's own units: nanoseconds of a time."""

TOPIC = "quota"
"""Where those events are published, in the namespace of the quota."""

REFUSED = "quota"
"""The kind of failure of what a quota has refused, which itself is of no quota."""

_ID = "functions"

_SECONDS = 1e9
_UNITS: Mapping[str, Unit] = {"ns": "seconds", "bytes": "bytes"}
_FORM = re.compile(r"([a-z_]+)=([^/]+)/([a-z]+)")
_PART = re.compile(r"(\d{1,3}(?:\.\d{1,4})?) ?%")

# Not to be added up, so nothing could be used up.
_NOT_SUMMED = ("heap",)

NAMES = tuple(name for name in MEASURES if name not in _NOT_SUMMED)
"""The measures that quotas are for."""


class Subject(NamedTuple):
    """Whose use is limited: a function's, or with an account all functions' of that; else all.

    Attributes:
        namespace: where.
        name: of the function; empty of the others.
        account: whose functions; empty of the others.
    """

    namespace: str
    name: str = ""
    account: str = ""

    @property
    def line(self) -> Line:
        """Where the ledger has it."""
        return Line(
            namespace=self.namespace,
            kind="function",
            name=self.name or None,
            account=self.account or None,
        )

    @property
    def shown(self) -> str:
        """For people."""
        if self.name:
            return f"function {self.name}"
        return f"account {self.account}" if self.account else f"namespace {self.namespace}".strip()


def subject_of(line: Line) -> Subject | None:
    """Whose line of the ledger it is; None if it is nothing of functions."""
    if line.kind != "function":
        return None
    return Subject(line.namespace, line.name or "", line.account or "")


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """So much of a measure may be used in each period.

    Attributes:
        measure: as of `MEASURES`, but `heap`.
        most: requests, bytes, seconds, or what else the measure is of.
        period: ``hour``, ``day`` or ``month``.
        soft: parts of it, at which an event tells of it.
        by: who has said so: ``admin``, or the ``owner`` of a function.
    """

    measure: str
    most: int | float
    period: Period
    soft: list[float] = msgspec.field(default_factory=lambda: [SOFT])
    by: By = "admin"

    @property
    def key(self) -> str:
        """What tells it from others of the same subject."""
        return f"{self.measure}/{self.period}/{self.by}"

    @property
    def shown(self) -> str:
        """As a flag takes it: ``requests=10000/hour``."""
        return f"{self.measure}={written(self.measure, self.most)}/{self.period}"

    def used(self, counts: Counts) -> int | float:
        """What counts have of its measure, in its unit."""
        measure = MEASURES[self.measure]
        value: int = getattr(counts, measure.field)
        if self.measure in ("requests", "errors"):
            # Who is refused has used nothing of it.
            value -= counts.failures.get(REFUSED, 0)
        return value / _SECONDS if measure.unit == "ns" else value


def key_of(subject: Subject) -> str:
    """What the keys of the quotas of an account or a namespace begin with."""
    return f"{subject.namespace}/{quoted(subject.account, safe='')}/"


def subject_of_key(key: str) -> Subject:
    """Whose quota it is that has such a key."""
    namespace, account, _ = key.split("/", 2)
    return Subject(namespace, account=unquote(account))


def check(quota: Quota) -> Quota:
    """A quota that can be.

    Raises:
        errors.BadRequest: it cannot; the detail says why.
    """
    if quota.measure in _NOT_SUMMED:
        raise _bad(f"{quota.measure} is not added up, so there is no quota of it; use --limit heap")
    if quota.measure not in NAMES:
        raise _bad(f"{quota.measure!r:.40} is no measure; one of {', '.join(NAMES)}")
    most = quota.most * (_SECONDS if _unit(quota.measure) == "seconds" else 1)
    if not math.isfinite(most) or not 0 < most <= MOST:
        raise _bad(f"{quota.measure}={quota.most:g} is no amount; it is above 0, and not endless")
    if _unit(quota.measure) != "seconds" and quota.most != int(quota.most):
        raise _bad(f"{quota.measure}={quota.most:g} is no whole number")
    if len(quota.soft) > MAX_SOFT:
        raise _bad(f"soft: at most {MAX_SOFT} parts")
    for part in quota.soft:
        if not 0 < part <= 1:
            raise _bad(f"soft: {part:g} is no part; it is above 0, and at most 1, which is 100%")
    exact = quota.most if _unit(quota.measure) == "seconds" else int(quota.most)
    return msgspec.structs.replace(quota, most=exact, soft=sorted(set(quota.soft)))


def read(text: str) -> tuple[str, float, Period]:
    """The measure, the amount and the period of ``requests=10000/hour``, ``cpu=60s/day``.

    Raises:
        errors.BadRequest: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise _bad(f"{text[:60]!r} is not of the form requests=10000/hour")
    measure, amount, period = found.groups()
    if measure in NAMES:
        most = amounts.read(amount, _unit(measure), measure)
    else:
        check(Quota(measure=measure, most=1, period="hour"))
        raise AssertionError
    return measure, most, period_of(period)


def period_of(text: str) -> Period:
    """The period that a text says.

    Raises:
        errors.BadRequest: it says none.
    """
    for period in PERIODS:
        if text == period:
            return period
    raise _bad(f"{text[:40]!r} is no period; one of {', '.join(PERIODS)}")


def read_part(text: str) -> float:
    """The part that ``80%`` says.

    Raises:
        errors.BadRequest: it says none.
    """
    found = _PART.fullmatch(text.strip())
    if found is None:
        raise _bad(f"soft: {text[:40]!r} is no part; write it like 80%")
    return float(found[1]) / 100


def written(measure: str, amount: float) -> str:
    """An amount as `read` takes it."""
    return amounts.written(amount, _unit(measure))


def shown(measure: str, amount: float) -> str:
    """An amount for people."""
    return amounts.show(amount, _unit(measure))


def begin_of(period: Period, at: float) -> float:
    """When the period that a time is in began, in seconds since the epoch."""
    if period == "month":
        year, month, *_ = time.gmtime(at)
        return float(calendar.timegm((year, month, 1, 0, 0, 0)))
    return at - at % (3600 if period == "hour" else 86400)


def end_of(period: Period, at: float) -> float:
    """When the period that a time is in is over."""
    begin = begin_of(period, at)
    if period == "month":
        return begin_of("month", begin + 32 * 86400)
    return begin + (3600 if period == "hour" else 86400)


def _unit(measure: str) -> Unit:
    return _UNITS.get(MEASURES[measure].unit, "number")


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest(_ID, f"quota: {detail}")
