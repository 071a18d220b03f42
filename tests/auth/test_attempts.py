"""How often passwords may be tried."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.auth import attempts
from microcosmos.auth.attempts import (
    ACCOUNT_TRIES,
    ADDRESS_TRIES,
    TRIES,
    TRIES_EVERY,
    Attempt,
    Attempts,
    network,
)
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock


def attempt(address: str = "203.0.113.7", account: str = "admin") -> Attempt:
    return Attempt("micro", account, address)


def refused(counts: Attempts, one: Attempt) -> float:
    """Seconds to wait, 0 if it may be made (and was, in vain)."""
    try:
        counts.begin(one)
    except errors.TooManyRequests as error:
        found = re.search(r"try again in (\d+) s", error.detail)
        assert found is not None
        return float(found[1])
    return 0.0


async def test_after_some_wrong_ones_one_has_to_wait() -> None:
    clock = ManualClock()
    counts = Attempts(clock)
    for _ in range(TRIES):
        assert refused(counts, attempt()) == 0
    wait = refused(counts, attempt())
    assert wait == TRIES_EVERY
    await clock.advance(wait - 1)
    assert refused(counts, attempt()) == 1
    await clock.advance(1)
    assert refused(counts, attempt()) == 0
    assert refused(counts, attempt()) == wait


async def test_trying_on_does_not_make_it_longer() -> None:
    clock = ManualClock()
    counts = Attempts(clock)
    while not refused(counts, attempt()):
        pass
    for _ in range(1000):
        assert refused(counts, attempt()) == TRIES_EVERY
    await clock.advance(TRIES_EVERY)
    assert refused(counts, attempt()) == 0


async def test_the_right_password_counts_for_nothing() -> None:
    counts = Attempts(ManualClock())
    for _ in range(3 * ACCOUNT_TRIES):
        counts.succeeded(counts.begin(attempt()))
    for _ in range(TRIES - 1):
        assert refused(counts, attempt()) == 0
    counts.succeeded(counts.begin(attempt()))
    assert refused(counts, attempt()) == 0


async def test_many_addresses_do_not_help_and_do_not_shut_the_owner_out() -> None:
    counts = Attempts(ManualClock())
    counts.succeeded(counts.begin(attempt("198.51.100.1")))
    tried = 0
    for number in range(1000):
        tried += refused(counts, attempt(f"10.0.{number // 250}.{number % 250}")) == 0
    assert tried == ACCOUNT_TRIES
    assert refused(counts, attempt("198.51.100.2")) > 0
    assert refused(counts, attempt("198.51.100.1")) == 0


async def test_one_address_cannot_go_through_all_accounts() -> None:
    counts = Attempts(ManualClock())
    made = [refused(counts, attempt(account=f"user{n}")) for n in range(ADDRESS_TRIES + 1)]
    assert not any(made[:-1])
    assert made[-1] > 0
    assert refused(counts, attempt("203.0.113.8", "user1")) == 0


async def test_those_inside_do_not_wait_for_each_other() -> None:
    counts = Attempts(ManualClock())
    for number in range(2 * ADDRESS_TRIES):
        assert refused(counts, attempt("", f"service{number}")) == 0


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "REMEMBERED", 50)
    counts = Attempts(ManualClock())
    for number in range(500):
        counts.succeeded(counts.begin(attempt(f"10.0.0.{number % 250}", f"user{number}")))
        counts.begin(attempt(f"10.0.0.{number % 250}", f"other{number}"))
    assert len(counts._full_at) <= 50
    assert len(counts._good) <= 50


@given(st.lists(st.floats(0, 20), max_size=80))
def test_never_more_than_the_burst_and_what_was_granted_since(pauses: list[float]) -> None:
    clock = ManualClock(0)
    counts = Attempts(clock)
    failed = 0
    for pause in pauses:
        clock._now += pause
        if refused(counts, attempt()) == 0:
            failed += 1
    assert failed <= TRIES + clock.monotonic() / TRIES_EVERY + 1e-6


@pytest.mark.parametrize(
    ("address", "stands"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unix", "unix"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_whoever_has_an_address(address: str, stands: str) -> None:
    assert network(address) == stands
