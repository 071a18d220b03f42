"""When schedules publish."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from microcosmos.base import errors
from microcosmos.events.interface import Draft, Schedule
from microcosmos.events.schedule import at, check_schedule, every, upcoming


def times(when: str, after: str, number: int = 3, zone: str = "") -> list[str]:
    """The first times after a moment."""
    schedule = check_schedule(Schedule("s", Draft("t", b""), when, zone))
    moment, found = datetime.fromisoformat(after).timestamp(), []
    for _ in range(number):
        upcoming_ = upcoming(schedule, moment)
        assert upcoming_ is not None
        moment = upcoming_
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("* * * * *", ["2026-01-01 00:01:00", "2026-01-01 00:02:00", "2026-01-01 00:03:00"]),
        ("*/20 * * * * *", ["2026-01-01 00:00:40", "2026-01-01 00:01:00", "2026-01-01 00:01:20"]),
        ("0 3 * * *", ["2026-01-01 03:00:00", "2026-01-02 03:00:00", "2026-01-03 03:00:00"]),
        ("@hourly", ["2026-01-01 01:00:00", "2026-01-01 02:00:00", "2026-01-01 03:00:00"]),
        ("@daily", ["2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00"]),
        ("@weekly", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
        ("@monthly", ["2026-02-01 00:00:00", "2026-03-01 00:00:00", "2026-04-01 00:00:00"]),
        ("@yearly", ["2027-01-01 00:00:00", "2028-01-01 00:00:00", "2029-01-01 00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"]),
        ("0 0 * * MON-FRI", ["2026-01-02 00:00:00", "2026-01-05 00:00:00", "2026-01-06 00:00:00"]),
        # Both days are said, so either will do; also when one is every second day.
        ("0 0 13 * FRI", ["2026-01-02 00:00:00", "2026-01-09 00:00:00", "2026-01-13 00:00:00"]),
        ("0 0 */10 * SUN", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
        ("0 0 ? * SUN", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
        ("@every 90s", ["2026-01-01 00:02:00", "2026-01-01 00:03:30", "2026-01-01 00:05:00"]),
    ],
)
def test_when_a_schedule_publishes(when: str, wanted: list[str]) -> None:
    assert times(when, "2026-01-01T00:00:30Z") == wanted


def test_hours_are_of_the_zone() -> None:
    """In spring there is no half past two, in autumn there are two of them."""
    spring = times("30 2 * * *", "2026-03-27T12:00:00Z", zone="Europe/Berlin")
    assert spring == ["2026-03-28 01:30:00", "2026-03-30 00:30:00", "2026-03-31 00:30:00"]
    autumn = times("30 2 * * *", "2026-10-24T00:00:00Z", zone="Europe/Berlin")
    assert autumn[0] == "2026-10-24 00:30:00"
    assert autumn[1] == "2026-10-25 00:30:00"
    assert autumn[-1] in ("2026-10-25 01:30:00", "2026-10-26 01:30:00")
    there = times("0 9 * * *", "2026-07-01T00:00:00Z", 1, "America/New_York")
    assert there == ["2026-07-01 13:00:00"]


def test_a_moment_comes_once() -> None:
    made = check_schedule(Schedule("s", Draft("t", b""), at(1_800_000_000.25)))
    assert made.when == "@at 2027-01-15T08:00:00.250000Z"
    assert upcoming(made, 0) == 1_800_000_000.25


def test_durations() -> None:
    assert every(90) == "@every 90s"
    assert every(1.5) == "@every 1.5s"
    for bad in (0, -1, float("nan"), float("inf"), 1e12):
        with pytest.raises(errors.BadRequest):
            check_schedule(Schedule("s", Draft("t", b""), every(bad)))
