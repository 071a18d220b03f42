"""A gateway that stops finishes what it has begun, takes nothing new, and is done in time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import DRAIN, serve
from microcosmos.testing import Bench

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
GET = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


async def _refused(port: int) -> None:
    """Wait until nobody listens any more.

    Whoever was queued to be accepted when the socket was closed is reset, not refused.
    """
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except (ConnectionRefusedError, ConnectionResetError):
                return
            writer.close()


async def test_a_request_that_is_being_answered_is_finished(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    opened = open_site(platform)
    site = await opened.__aenter__()
    idle, busy = await site.line(), await site.line()
    await idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await idle.answer()).status == 200
    await busy.send(GET)
    await asyncio.wait_for(slow.entered.wait(), 60)
    stopping = asyncio.create_task(opened.__aexit__(None, None, None))
    await _refused(site.port)
    assert await idle.closed()
    assert not stopping.done()
    slow.let.set()
    assert (await busy.answer()).body == b'"done"'
    assert await busy.closed()
    await asyncio.wait_for(stopping, 60)


async def test_what_takes_longer_than_the_drain_is_cancelled(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    async with open_site(platform, drain=0.1) as site:
        busy, sending = await site.line(), await site.line()
        await busy.send(GET)
        await sending.send(b"POST /slow HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        await asyncio.wait_for(slow.entered.wait(), 60)
        answers = asyncio.gather(busy.answer(), sending.answer())
        started = time.monotonic()
    assert time.monotonic() - started < DRAIN
    assert slow.cancelled.is_set()
    for answer in await answers:
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert b'"Detail":"the gateway stopped before the answer came"' in answer.body


async def test_a_gateway_opens_and_closes_many_times_in_one_process(
    platform: Bench, open_site: OpenSite
) -> None:
    files = []
    for _ in range(10):
        async with open_site(platform) as site:
            assert (await site.http.get("/")).status_code == 200
        await _refused(site.port)
        files.append(len(list(Path("/dev/fd").iterdir())))
    assert files[-1] <= files[1]


async def test_a_gateway_takes_its_socket_over(platform: Bench) -> None:
    here = platform.platform
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with serve(Gateway(here.client, here.table), listening):
            await asyncio.sleep(0)
        assert listening.fileno() == -1


async def test_a_gateway_that_stops_at_once_stops(platform: Bench) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    async with serve(Gateway(platform.platform.client, platform.platform.table), listening):
        pass
    await _refused(port)
