"""The log of decisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from microcosmos.functions.egress import decisions
from microcosmos.functions.egress.decisions import LINES, Decision, Decisions
from microcosmos.functions.egress.hosts import Origin

ALLOWED = Decision(
    verdict="allowed",
    namespace="micro",
    name="shop",
    version=3,
    method="GET",
    origin=Origin("https", "api.test", 443),
    address="192.0.2.7",
    port=443,
    redirects=1,
    status=200,
    size=1234,
    seconds=0.0564,
)


def test_a_line_says_all(tmp_path: Path) -> None:
    log = Decisions(tmp_path / "egress.log")
    log.note(ALLOWED)
    refused = ALLOWED._replace(verdict="refused", address="", redirects=0, status=403, why="no")
    log.note(refused)
    log.note(refused._replace(origin=None, method="X" * 1000))
    log.close()
    one, two, three = (tmp_path / "egress.log").read_text().splitlines()
    assert one.endswith(
        "info    microcosmos.egress: allowed micro/shop v3: GET https://api.test at 192.0.2.7 "
        "port 443 after 1 redirects, 200, 1,234 bytes, 56 ms"
    )
    assert two.endswith("refused micro/shop v3: GET https://api.test, 403, 1,234 bytes, 56 ms: no")
    assert "XXXX nowhere, 403" in three


def test_a_line_is_one_line_whatever_is_told(tmp_path: Path) -> None:
    log = Decisions(tmp_path / "egress.log")
    log.note(ALLOWED._replace(why="a\n2026-01-01 allowed\x1b[2J" + "x" * 5000, method="A\nB"))
    log.close()
    (line,) = (tmp_path / "egress.log").read_text().splitlines()
    assert len(line) < 700
    assert "\x1b" not in line


def test_a_line_as_json(tmp_path: Path) -> None:
    log = Decisions(tmp_path / "egress.log", json=True)
    log.note(ALLOWED)
    log.close()
    told = json.loads((tmp_path / "egress.log").read_text())
    assert (told["verdict"], told["address"], told["ms"]) == ("allowed", "192.0.2.7", 56)


def test_who_fetches_all_the_time_is_counted(tmp_path: Path) -> None:
    now = 1_000_000.0
    log = Decisions(tmp_path / "egress.log", clock=lambda: now)
    for _ in range(LINES + 50):
        log.note(ALLOWED)
    log.note(ALLOWED._replace(name="other"))
    now += 1
    log.note(ALLOWED)
    log.close()
    lines = (tmp_path / "egress.log").read_text().splitlines()
    assert sum(" allowed micro/shop" in line for line in lines) == LINES + 1
    assert "micro/other" in lines[LINES]
    assert lines[LINES + 1].endswith("micro/shop fetched more in that second: 50 allowed")


def test_a_log_that_is_full_keeps_its_last_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "MAX_FILE", 4000)
    log = Decisions(tmp_path / "egress.log")
    for number in range(60):
        log.note(ALLOWED._replace(status=number))
    log.close()
    lines = (tmp_path / "egress.log").read_text().splitlines()
    assert sum(len(line) + 1 for line in lines) <= 4000
    assert ", 59, 1,234 bytes" in lines[-1]
    assert all(line.endswith("56 ms") and line.startswith("20") for line in lines)
