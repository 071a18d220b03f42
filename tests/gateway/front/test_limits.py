"""Rates and quotas: how many pass, who is counted, what the client is told."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from microcosmos.gateway.front.counters import COUNTERS, Counters, Value
from microcosmos.gateway.front.limits import Asked, Limits, Quota, Rate, TooMany
from microcosmos.gateway.front.settings import Limit

TRUST = "[proxies]\ntrusted = ['127.0.0.1']\n"
PROGRAMS = Path(__file__).parent / "programs"


async def test_a_rate_with_its_burst(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    async with open_front("[[limits]]\nrate = '10/s'\nburst = 3\nname = 'calls'") as fronted:
        for left in (2, 1, 0):
            answer = await fronted.get("/echo")
            assert answer.status_code == 200
            assert answer.headers["ratelimit-policy"] == '"calls";q=3;w=1'
            assert answer.headers["ratelimit"] == f'"calls";r={left};t=1'
        refused = await fronted.get("/echo")
        assert refused.status_code == 429
        assert refused.headers["ratelimit"] == '"calls";r=0;t=1'
        assert refused.headers["retry-after"] == "1"
        assert refused.json() == {
            "Id": "gateway.limits",
            "Code": 429,
            "Detail": "the limit calls of 10/s is used up; try again in 1 s",
            "Status": "Too Many Requests",
        }
        await fronted.clock.advance(0.1)
        assert (await fronted.get("/echo")).status_code == 200
        assert (await fronted.get("/echo")).status_code == 429
        assert echo.calls == 4


async def test_who_waits_as_long_as_told_passes(open_front: Any) -> None:
    async with open_front("[[limits]]\nrate = '1/m'") as fronted:
        assert (await fronted.get("/")).status_code == 200
        await fronted.clock.advance(12.5)
        refused = await fronted.get("/")
        assert refused.headers["retry-after"] == "48"
        await fronted.clock.advance(48)
        assert (await fronted.get("/")).status_code == 200


async def test_a_body_that_is_refused_is_still_answered(open_front: Any) -> None:
    async with open_front("[[limits]]\nrate = '1/m'") as fronted:
        await fronted.get("/")
        answer = await fronted.site.http.post("/echo", content=b"x" * 300_000)
        assert answer.status_code == 429


async def test_clients_are_told_apart(open_front: Any) -> None:
    async with open_front(TRUST + "[[limits]]\nrate = '1/m'") as fronted:
        for address, status in (
            ("192.0.2.1", 200),
            ("192.0.2.1", 429),
            ("192.0.2.2", 200),
            ("2001:db8::1", 200),
            ("2001:db8::2", 429),
            ("2001:db8:0:1::1", 200),
            ("6.6.6.6, 192.0.2.2", 429),
        ):
            answer = await fronted.get("/", X_Forwarded_For=address)
            assert answer.status_code == status, address


@pytest.mark.parametrize(
    ("key", "header"), [("token", "Authorization"), ("header:X-Api-Key", "X_Api_Key")]
)
async def test_keys_are_told_apart_and_who_has_none_is_an_address(
    open_front: Any, key: str, header: str
) -> None:
    async with open_front(TRUST + f"[[limits]]\nrate = '1/m'\nkey = '{key}'") as fronted:
        for told, status in (
            ({header: "a"}, 200),
            ({header: "a"}, 429),
            ({header: "b"}, 200),
            ({}, 200),
            ({}, 429),
            ({"X_Forwarded_For": "192.0.2.1"}, 200),
            ({header: "b", "X_Forwarded_For": "192.0.2.1"}, 429),
        ):
            assert (await fronted.get("/", **told)).status_code == status, told


async def test_all_together(open_front: Any) -> None:
    async with open_front(TRUST + "[[limits]]\nrate = '1/m'\nkey = 'all'") as fronted:
        assert (await fronted.get("/", X_Forwarded_For="192.0.2.1")).status_code == 200
        assert (await fronted.get("/", X_Forwarded_For="192.0.2.2")).status_code == 429


@pytest.mark.parametrize(
    "text", ["service = 'echo'", "path = '/echo/call'", "service = 'e*'", "path = '/{x}/call'"]
)
async def test_no_spelling_of_a_path_gets_around_a_limit(
    open_front: Any, platform: Any, echo: Any, text: str
) -> None:
    await platform.start(echo.service)
    async with open_front(f"[[limits]]\nrate = '1/day'\n{text}") as fronted:
        assert (await fronted.get("/")).status_code == 200
        assert (await fronted.get("/echo/call")).status_code == 200
        for path in (
            "/echo",
            "/echo/Call",
            "//echo//call/",
            "/echo/%63all",
            "/echo/echo/call",
            "/echo/_call",
        ):
            assert (await fronted.raw(path)).status in (404, 429), path
        assert echo.calls == 1
        assert (await fronted.get("/healthz")).status_code == 200


async def test_what_another_limit_refuses_is_not_counted(open_front: Any) -> None:
    text = "[[limits]]\nquota = '5/day'\n[[limits]]\nrate = '1/s'"
    async with open_front(text) as fronted:
        assert (await fronted.get("/")).status_code == 200
        for _ in range(9):
            assert (await fronted.get("/")).status_code == 429
        await fronted.clock.advance(2)
        answer = await fronted.get("/")
        assert "r=3;t=" in answer.headers["ratelimit"]


async def test_a_quota_begins_anew_with_the_day(open_front: Any) -> None:
    async with open_front("[[limits]]\nquota = '2/day'") as fronted:
        left = 86400 - fronted.clock.time() % 86400
        assert [(await fronted.get("/")).status_code for _ in range(3)] == [200, 200, 429]
        refused = await fronted.get("/")
        assert refused.headers["retry-after"] == str(math.ceil(left))
        await fronted.clock.advance(left - 1)
        assert (await fronted.get("/")).status_code == 429
        await fronted.clock.advance(1)
        assert (await fronted.get("/")).status_code == 200


async def test_changed_settings_keep_what_was_counted(open_front: Any) -> None:
    limit = "[[limits]]\nquota = '1/day'\n"
    async with open_front(limit) as fronted:
        assert (await fronted.get("/")).status_code == 200
        fronted.apply("[[limits]]\nrate = '100/s'\n" + limit)
        assert (await fronted.get("/")).status_code == 429
        fronted.apply("")
        answer = await fronted.get("/")
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


# Meters and counters.


def _asked(address: str = "192.0.2.1") -> Asked:
    return Asked("/x", address, lambda name: "")


def _passed(limits: Limits, times: int, address: str = "192.0.2.1") -> int:
    passed = 0
    for _ in range(times):
        try:
            limits.check(_asked(address))
        except TooMany:
            continue
        passed += 1
    return passed


@pytest.mark.parametrize(
    "value", [(1e300, 0.0), (-1e300, 0.0), (float("nan"), 0.0), (float("inf"), 9e9)]
)
def test_a_damaged_slot_costs_one_bucket_at_most(value: tuple[float, float]) -> None:
    rate, quota = Rate("10/s"), Quota("10/s")
    full, _ = rate.take(value, 100.0)
    assert full[0] <= 101.01
    assert rate.take(full, 102.0)[1].allowed
    assert quota.take(value, 100.0)[1].allowed


@pytest.mark.parametrize("told", ["1/s", "3/m", "7/h", "1000/s", "100000/s", "1000000/s"])
def test_rates_are_exact_at_todays_times(told: str, tmp_path: Path) -> None:
    counters = Counters(tmp_path / "limits")
    now = [1_800_000_000.123]
    limits = Limits([Limit(rate=told, burst=100)], counters, lambda: now[0])
    assert _passed(limits, 150) == 100
    count, seconds = told.split("/")
    now[0] += 50 * {"s": 1, "m": 60, "h": 3600}[seconds] / int(count)
    assert _passed(limits, 90) in (49, 50, 51)
    counters.close()


def test_a_clock_that_is_set_back_does_not_lock_anybody_out(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    limits = Limits([Limit(rate="10/s")], Counters(tmp_path / "limits"), lambda: now[0])
    assert _passed(limits, 20) == 10
    now[0] -= 86_400
    _passed(limits, 20)
    now[0] += 1
    assert _passed(limits, 20) == 10


def test_a_flood_of_keys_takes_no_more_memory_and_frees_nobody_heavy(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    limits = Limits([Limit(rate="50/h")], Counters(path), lambda: 1_800_000_000.0)
    size = path.stat().st_size
    assert _passed(limits, 60, "192.0.2.1") == 50
    for number in range(COUNTERS // 4):
        limits.check(_asked(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert path.stat().st_size == size
    assert _passed(limits, 60, "192.0.2.1") == 0


def test_a_full_row_forgets_who_was_counted_least(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("microcosmos.gateway.front.counters._ROWS", 1)
    limits = Limits([Limit(quota="50/h")], Counters(tmp_path / "limits"), lambda: 1_800_000_000.0)
    assert _passed(limits, 50, "192.0.2.1") == 50
    for number in range(200):
        limits.check(_asked(f"10.0.0.{number}"))
    assert _passed(limits, 1, "192.0.2.1") == 0


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"x" * 3_000_000])
def test_a_damaged_file_is_begun_anew(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "limits"
    path.write_bytes(damage)
    limits = Limits([Limit(rate="5/h")], Counters(path), time.time)
    assert _passed(limits, 9) == 5


def test_without_a_file_it_counts_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits([Limit(rate="5/h")], Counters(tmp_path / "no" / "limits"), time.time)
    assert _passed(limits, 9) == 5
    assert "counted by each gateway alone" in caplog.text


def _run(program: str, *words: object) -> subprocess.Popen[str]:
    """A process of its own, as gateways are."""
    argv = [sys.executable, PROGRAMS / f"{program}.py", *words]
    return subprocess.Popen(
        [str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_gateways_count_together(tmp_path: Path) -> None:
    workers = [_run("count", tmp_path / "limits", 9000) for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    counts = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(counts) == 10_000


def test_a_gateway_that_hangs_stops_nobody(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "limits")
    with _run("hang", tmp_path / "limits", "key") as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        began = time.monotonic()
        counters.change("key", lambda value: (1.0, 1.0))
        assert time.monotonic() - began < 60
        worker.kill()
    # What it held is free again, and what was counted meanwhile is there.
    seen: list[Value | None] = []
    counters.change("key", lambda value: seen.append(value) or (0.0, 0.0))
    assert seen == [(1.0, 1.0)]
    counters.close()
