"""Streams where Granian stands between us and the connection: TLS and HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from microcosmos.base.tls import Files
from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

from .streaming import Streaming
from .test_tls import PREFACE, curl

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def files(mint: Any) -> Files:
    return Files(*mint.make())


@pytest.fixture
def demo(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Streaming]:
    demo = Streaming()
    microcosmos_runner.run(platform.start(demo.service))
    yield demo
    demo.let.set()


def opened(site: Any, files: Files, path: str, **options: Any) -> connect:
    context = ssl.create_default_context(cafile=str(files.certificate))
    url = f"wss://127.0.0.1:{site.port}{path}"
    return connect(url, ssl=context, open_timeout=60, close_timeout=60, proxy=None, **options)


async def all_of(socket: ClientConnection) -> list[Any]:
    said: list[Any] = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                said.append(await socket.recv())
    return said


async def test_sockets_speak_tls(
    platform: Bench, open_site: OpenSite, demo: Streaming, files: Files
) -> None:
    async with open_site(platform, tls=files, http2=True) as site:
        async with opened(site, files, "/demo/scale?by=2") as socket:
            await socket.send("1")
            assert await socket.recv() == "2"
            async with asyncio.timeout(60):
                await (await socket.ping())
            await socket.send("")
            assert await all_of(socket) == []
            assert socket.close_code == 1005
        async with opened(site, files, "/demo/fails?after=1") as socket:
            first, last = await all_of(socket)
            assert (first, json.loads(last)["error"]["Code"]) == ("0", 409)
        with pytest.raises(InvalidStatus) as refused:
            await opened(site, files, "/demo/count", origin="http://evil.test")
        assert refused.value.response.status_code == 403


async def test_limits_hold_by_tls_too(
    platform: Bench, open_site: OpenSite, demo: Streaming, files: Files
) -> None:
    async with open_site(platform, tls=files) as site:
        async with opened(site, files, "/demo/scale") as socket:
            await socket.send("1" * (MAX_BODY + 1))
            assert json.loads((await all_of(socket))[0])["error"]["Code"] == 413
        async with opened(site, files, "/demo/endless", max_queue=1) as socket:
            assert await site.settled(lambda: demo.sent) < 20_000
            socket.transport.abort()
        await site.eventually(lambda: "endless" in demo.ended)
        async with opened(site, files, "/demo/waits?first=x") as socket:
            assert await socket.recv() == '"x"'
        await site.eventually(lambda: "CancelledError" in demo.ended)


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_answers_are_streamed_by_tls(
    platform: Bench, open_site: OpenSite, demo: Streaming, files: Files, version: str
) -> None:
    async with open_site(platform, tls=files, http2=True, beat=0.02) as site:
        flags = (f"--http{version}", "--cacert", str(files.certificate), "-N")
        url = f"https://127.0.0.1:{site.port}/demo/"
        assert await curl(*flags, f"{url}count?to=2") == f'{{"at":1}}\n{{"at":2}}\n {version} 200'
        sent = ("-H", "content-type: application/x-ndjson", "--data-binary", "@-")
        said = await curl(*flags, *sent, f"{url}scale?by=2", data=b"1\n2\n")
        assert said == f"2\n4\n {version} 200"


async def test_a_client_of_http2_that_does_not_read_holds_the_service_up(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform, http2=True, patience=0.02) as site:
        line = await site.line()
        # A window of 64 KiB that is never made wider; the socket itself stays free.
        await line.send(PREFACE + _get("/demo/endless?size=10000"))
        await site.eventually(lambda: demo.sent)
        assert await site.settled(lambda: demo.sent) * 10_000 < 10_000_000
        line.leave()
        await site.eventually(lambda: demo.ended)


def _get(path: str) -> bytes:
    """A request as a frame of HTTP/2, its headers spelt out."""
    block = b"\x82\x86" + b"\x04%c%b" % (len(path), path.encode()) + b"\x01\x01x"
    return len(block).to_bytes(3) + b"\x01\x05" + (1).to_bytes(4) + block
