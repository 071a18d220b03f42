"""When schedules publish: their forms, the same on every backend, and the next time of each."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from microcosmos.base import errors

from .checks import LONGEST_TTL, check_draft, check_name, check_time
from .interface import Schedule

MIN_EVERY = 1.0
"""The shortest time between two events of a schedule, in seconds (a limit of nats-server's)."""

_NAMED = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_ONE = r"(\*|\?|(\d+|[A-Z]{3})(-(\d+|[A-Z]{3}))?)(/\d+)?"
_FIELD = re.compile(rf"{_ONE}(,{_ONE})*", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.ASCII)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DAYS = {3: "1-31", 5: "0-6"}
_FORMS = (
    "a schedule is `@at 2026-01-31T12:00:00Z`, `@every 90s`, `@daily` and the like, or five "
    "fields of cron (`0 3 * * *`), six with seconds before them"
)


def check_schedule(schedule: Schedule) -> Schedule:
    """A schedule as every backend takes it: times in UTC, cron with its seconds.

    Raises:
        errors.BadRequest: its id, draft, ``when`` or ``zone`` cannot be one.
        errors.TooLarge: the payload is over the limit.
    """
    check_name("id of a schedule", schedule.id)
    if schedule.draft.id:
        raise errors.BadRequest(
            "events", "the events of a schedule cannot have an id: they would be one event"
        )
    draft = msgspec.structs.replace(check_draft(schedule.draft), id="")
    when = " ".join(schedule.when.split())
    if when.startswith("@at "):
        when = f"@at {_rfc3339(_moment(when[4:]))}"
    elif when.startswith("@every "):
        when = f"@every {_shown(_seconds(when[7:]))}"
    else:
        when = _cron(when)
    if schedule.zone:
        if when.startswith(("@at", "@every")):
            raise errors.BadRequest("events", "a zone is for schedules of cron only")
        _zone(schedule.zone)
    checked = Schedule(schedule.id, draft, when, schedule.zone)
    if not when.startswith("@") and upcoming(checked, datetime.now(UTC).timestamp()) is None:
        raise _refused(f"{when!r} never happens")
    return checked


def upcoming(schedule: Schedule, after: float) -> float | None:
    """The first time after a moment, in seconds since the epoch; None when there is none.

    Args:
        schedule: one that `check_schedule` has let through.
        after: for ``@every``, the time before, or when it was made.
    """
    when = schedule.when
    if when.startswith("@at "):
        return _moment(when[4:]).timestamp()
    if when.startswith("@every "):
        return after + _seconds(when[7:])
    start = datetime.fromtimestamp(after, _zone(schedule.zone))
    found = next(CronSim(_for_cronsim(_NAMED.get(when, when)), start), None)
    return found.timestamp() if found else None


def repeats(schedule: Schedule) -> bool:
    """Whether it publishes more than once."""
    return not schedule.when.startswith("@at ")


def at(seconds: float) -> str:
    """The ``when`` of an event at a moment, in seconds since the epoch."""
    return f"@at {_rfc3339(datetime.fromtimestamp(check_time('at', seconds), UTC))}"


def every(seconds: float) -> str:
    """The ``when`` of an event every so many seconds."""
    return f"@every {_shown(seconds)}"


def _refused(why: str) -> errors.BadRequest:
    return errors.BadRequest("events", f"{why}: {_FORMS}")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _refused(f"{text!r:.60} is no time") from None
    if moment.tzinfo is None:
        raise _refused(f"{text!r:.60} has no zone")
    try:
        moment = moment.astimezone(UTC)
        check_time("at", moment.timestamp())
    except (OverflowError, errors.BadRequest):
        raise _refused(f"{text!r:.60} is no time that can come") from None
    return moment


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _seconds(text: str) -> float:
    parts = _DURATION.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _refused(f"{text!r:.60} is no duration such as 90s or 1h30m")
    if not MIN_EVERY <= seconds <= LONGEST_TTL:
        hours = LONGEST_TTL / 3600
        raise _refused(f"{text} is not between {MIN_EVERY:g}s and {hours:.0f}h")
    return seconds


def _shown(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _cron(when: str) -> str:
    """Cron's fields with the seconds, or the name of a form, as nats-server takes them."""
    if when.startswith("@"):
        if when.lower() not in _NAMED:
            raise _refused(f"{when!r:.60} is unknown")
        return when.lower()
    fields = when.upper().split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise _refused(f"{when!r:.60} has {len(fields)} fields")
    for place, field in enumerate(fields):
        # Of the two families of cron's dialects nats-server speaks the narrower one.
        if not _FIELD.fullmatch(field) or (place not in _DAYS and "?" in field):
            raise _refused(f"{field!r:.60} is no field of cron")
    if "7" in re.split(r"[,/-]", re.sub(r"/\d+", "", fields[5])):
        raise _refused("the days of the week are 0 (Sunday) to 6")
    found = " ".join(fields)
    try:
        CronSim(_for_cronsim(found), datetime.now(UTC))
    except CronSimError as exc:
        raise _refused(f"{when!r:.60}: {str(exc)[:1].lower()}{str(exc)[1:]}") from None
    return found


def _for_cronsim(fields: str) -> str:
    """The same for cronsim, which takes ``*/2`` of days for every day, as nats-server does not."""
    parts = fields.split()
    for place, days in _DAYS.items():
        parts[place] = re.sub(r"[*?](?=/)", days, parts[place]).replace("?", "*")
    return " ".join(parts)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise errors.BadRequest(
            "events", f"{name!r:.60} is no zone; one is a name such as Europe/Berlin"
        ) from None
