"""Durations as they are typed and shown."""

from __future__ import annotations

import click
import pytest

from microcosmos.cli import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("2h", 7200),
        ("1.5s", 1.5),
        ("10", 10),
        ("1d", 86400),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert durations.parse(text, "--since") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1s", "1 s", "s", "1x", "1s2", "\u0661s", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--since: "):
        durations.parse(text, "--since")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (61, "1m1s"),
        (74625, "20h43m45s"),
        (360_000, "100h0m0s"),
        (-5, "0s"),
    ],
)
def test_durations_are_shown_as_micro_does(seconds: float, text: str) -> None:
    assert durations.show(seconds) == text
