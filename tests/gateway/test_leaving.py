"""A call whose client has gone is cancelled; one whose client waits is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from microcosmos.gateway.patience import Patience
from microcosmos.testing import Bench

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
GET = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest) -> Bench:
    name = "platform" if request.param == "memory" else "nats_platform"
    bench: Bench = request.getfixturevalue(name)
    return bench


@pytest.mark.parametrize("head", [GET, b"POST /slow HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"])
async def test_a_client_that_goes_away_cancels_its_call(
    bench: Bench,
    open_site: OpenSite,
    slow: Any,
    head: bytes,
    caplog: pytest.LogCaptureFixture,
    microcosmos_runner: object,
) -> None:
    await bench.start(slow.service)
    async with open_site(bench, patience=0.02) as site, asyncio.timeout(60):
        line = await site.line()
        await line.send(head)
        await slow.entered.wait()
        line.leave()
        await slow.cancelled.wait()
        assert slow.calls == 1
        assert (await site.http.get("/healthz")).status_code == 200
    assert caplog.text == ""


async def test_a_client_that_goes_away_late_cancels_its_call_too(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    async with open_site(platform, patience=0.02) as site, asyncio.timeout(60):
        line = await site.line()
        await line.send(GET)
        await slow.entered.wait()
        await _ticks(0.02, 4)
        line.leave()
        await slow.cancelled.wait()


async def test_a_client_that_waits_gets_its_answer(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    async with open_site(platform, patience=0.02) as site:
        line = await site.line()
        for _ in range(3):
            slow.entered.clear()
            slow.let.clear()
            await line.send(GET)
            await asyncio.wait_for(slow.entered.wait(), 60)
            await _ticks(0.02, 4)
            slow.let.set()
            assert (await line.answer()).body == b'"done"'
    assert not slow.cancelled.is_set()


async def _ticks(seconds: float, count: int) -> None:
    """Let that many ticks of a clock of the loop go by."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        passed = asyncio.Event()
        loop.call_later(seconds, passed.set)
        await passed.wait()


class Connection:
    """What Granian gives of a connection: it can be waited for its end."""

    def __init__(self) -> None:
        self.watched = 0
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def client_disconnect(self) -> asyncio.Future[None]:
        self.watched += 1
        return self.left


async def test_a_fast_call_is_never_watched() -> None:
    patience = Patience(0.05)
    connection = Connection()
    for _ in range(10):
        patience.begin(connection)
        await _ticks(0.001, 1)
        patience.end(connection)
    await _ticks(0.05, 3)
    assert connection.watched == 0


async def test_a_long_call_is_watched_once_and_not_after_it_has_ended() -> None:
    patience = Patience(0.002)
    connection = Connection()
    patience.begin(connection)
    await _ticks(0.002, 6)
    assert connection.watched == 1
    patience.end(connection)
    assert connection.left.cancelled()


async def test_who_leaves_cancels_the_task_of_its_call_alone() -> None:
    patience = Patience(0.002)
    staying, leaving = Connection(), Connection()

    async def call(connection: Connection) -> str:
        patience.begin(connection)
        try:
            await _ticks(0.002, 20)
        except asyncio.CancelledError:
            return "cancelled"
        finally:
            patience.end(connection)
        return "answered"

    calls = asyncio.gather(call(staying), call(leaving))
    await _ticks(0.002, 6)
    leaving.left.set_result(None)
    assert await calls == ["answered", "cancelled"]
