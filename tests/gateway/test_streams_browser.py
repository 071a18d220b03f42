"""Streams in a real browser: EventSource, fetch and WebSocket, of this page and of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from microcosmos.testing import Bench

from .streaming import Streaming

pytestmark = pytest.mark.slow

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
# Debian's browser, without its sandbox: tests run as root in containers.
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

EVENTS = """path => new Promise(done => {
    const said = [], source = new EventSource(path);
    source.onmessage = event => said.push(event.data);
    source.addEventListener("error", event => {
        said.push(event.data ? JSON.parse(event.data).Code : "failed");
        source.close();
        done(said);
    });
    source.addEventListener("end", event => {
        said.push("end" + event.data);
        source.close();
        done(said);
    });
})"""

AGAIN = """path => new Promise(done => {
    let opened = 0;
    const source = new EventSource(path);
    source.onopen = () => { if (++opened == 2) { source.close(); done(opened); } };
})"""

SOCKET = """([url, sent]) => new Promise(done => {
    const said = [], socket = new WebSocket(url);
    socket.onopen = () => sent.forEach(one => socket.send(one));
    socket.onmessage = event => said.push(event.data);
    socket.onclose = event => done([said, event.code, event.wasClean]);
})"""

LINES = """async path => {
    const answer = await fetch(path, { headers: { accept: "application/x-ndjson" } });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return value;
}"""


@pytest.fixture
def demo(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Streaming]:
    demo = Streaming()
    microcosmos_runner.run(platform.start(demo.service))
    yield demo
    demo.let.set()


@asynccontextmanager
async def opened(site: Any) -> AsyncIterator[Page]:
    """A page of the site."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{site.port}/healthz")
        yield page
        await browser.close()


async def test_a_page_reads_events(platform: Bench, open_site: OpenSite, demo: Streaming) -> None:
    async with open_site(platform) as site, opened(site) as page:
        assert await page.evaluate(EVENTS, "/demo/count?to=2") == ['{"at":1}', '{"at":2}', "end"]
        assert await page.evaluate(EVENTS, "/demo/fails?after=1") == ["0", 409]
        assert await page.evaluate(EVENTS, "/demo/fails") == ["failed"]
        other = f"http://localhost:{site.port}/demo/count?to=1"
        assert await page.evaluate(EVENTS, other) == ['{"at":1}', "end"]


async def test_a_page_that_does_not_close_a_stream_opens_it_again(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site, opened(site) as page:
        assert await page.evaluate(AGAIN, "/demo/count?to=1") == 2


async def test_a_page_reads_lines_and_leaves(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site, opened(site) as page:
        assert await page.evaluate(LINES, "/demo/waits?first=now") == '"now"\n'
        await site.eventually(lambda: demo.ended)


async def test_a_page_talks_by_websocket(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site, opened(site) as page:
        url = f"ws://127.0.0.1:{site.port}/demo/"
        said = await page.evaluate(SOCKET, [url + "scale?by=2", ["1", "2", ""]])
        assert said == [["2", "4"], 1000, True]
        (_, error), code, clean = await page.evaluate(SOCKET, [url + "fails?after=1", []])
        assert error.startswith('{"error":{"Id":"demo.Fails","Code":409,')
        assert (code, clean) == (4409, True)
        other = f"ws://localhost:{site.port}/demo/once"
        assert await page.evaluate(SOCKET, [other, []]) == [[], 1006, False]
