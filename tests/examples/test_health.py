"""examples/health: one service tells how it is, another one listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "examples" / "health"


@pytest.fixture(scope="module")
def health(live: Live) -> Iterator[Live]:
    starting = [live.typing("run", name, cwd=FOLDER) for name in ("./foo", "./watcher")]
    for one in starting:
        assert live.ended(one).code == 0
    yield live
    for name in ("foo", "watcher"):
        live.micro("kill", name)


def test_the_watcher_hears_how_foo_is(health: Live) -> None:
    health.micro("foo", "report")
    until(lambda: health.call("watcher", "read") == {"foo": True})
    health.micro("foo", "report", "--healthy=false")
    until(lambda: health.call("watcher", "read") == {"foo": False})
    logged = health.micro("logs", "watcher").out
    assert "Service foo is healthy\nService foo is not healthy\n" in logged


def test_anybody_who_may_is_heard_and_hears(health: Live) -> None:
    listening = health.typing("broker", "subscribe", "health", "--limit=1")

    def heard() -> bool:
        health.micro("broker", "publish", "health", '{"healthy": true, "service": "bar"}')
        return listening.poll() is not None

    until(heard)
    assert '"body":{"healthy":true,"service":"bar"}' in health.ended(listening).out
    assert health.call("watcher", "read")["bar"] is True


def test_what_cannot_be_read_is_in_the_log_and_ends_nothing(health: Live) -> None:
    health.micro("broker", "publish", "health", '{"healthy": "maybe"}')
    line = "watcher.note failed on health: expected `bool`, got `str` - at `$.healthy`"
    until(lambda: line in health.micro("logs", "watcher").out)
    health.micro("foo", "report")
    until(lambda: health.call("watcher", "read")["foo"] is True)
