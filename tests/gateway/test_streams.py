"""Streams as lines of JSON and as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

from .streaming import Streaming

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
LINES = {"accept": "application/x-ndjson"}
EVENTS = {"accept": "text/event-stream"}
SENT = {"content-type": "application/x-ndjson"}


@pytest.fixture
def demo(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Streaming]:
    demo = Streaming()
    microcosmos_runner.run(platform.start(demo.service))
    yield demo
    demo.let.set()


async def test_a_stream_is_one_json_a_line(site: Any, demo: Streaming) -> None:
    answer = await site.http.get("/demo/count?to=3")
    assert answer.text == '{"at":1}\n{"at":2}\n{"at":3}\n'
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, Text/Event-Stream;q=0.9", "text/event-stream"),
    ],
)
async def test_the_request_chooses(site: Any, demo: Streaming, accept: str, kind: str) -> None:
    for path in ("/demo/count?to=1", "/demo/count"):
        answer = await site.http.post(path, json={"to": 1}, headers={"accept": accept})
        assert answer.headers["content-type"] == kind


async def test_events(site: Any, demo: Streaming) -> None:
    answer = await site.http.get("/demo/count?to=2", headers=EVENTS | {"origin": "http://a.test"})
    assert answer.text == (
        'retry: 2000\n\ndata: {"at":1}\n\ndata: {"at":2}\n\nevent: end\ndata:\n\n'
    )
    assert answer.headers["access-control-allow-origin"] == "http://a.test"


async def test_no_messages_are_a_stream_too(site: Any, demo: Streaming) -> None:
    assert (await site.http.get("/demo/count?to=0")).content == b""
    events = await site.http.get("/demo/count?to=0", headers=EVENTS)
    assert events.text == "retry: 2000\n\nevent: end\ndata:\n\n"


async def test_an_endpoint_that_answers_once_is_a_stream_of_one(site: Any, demo: Streaming) -> None:
    answer = await site.http.get("/demo/once?name=Jo", headers=LINES)
    assert answer.text == '"Hello Jo"\n'
    assert (await site.http.get("/demo/once?name=Jo")).text == '"Hello Jo"'


async def test_an_error_before_the_first_message_is_an_answer(site: Any, demo: Streaming) -> None:
    for headers in (LINES, EVENTS):
        answer = await site.http.get("/demo/fails", headers=headers)
        assert answer.status_code == 409
        assert answer.json()["Detail"] == "enough"
        assert answer.headers["micro-trace"]
        assert (await site.http.get("/demo/count?to=x", headers=headers)).status_code == 400
        assert (
            await site.http.post("/demo/count", content=b"{", headers=headers)
        ).status_code == 400
        assert (await site.http.get("/demo/nope", headers=headers)).status_code == 404


async def test_an_error_after_it_is_the_last_message(site: Any, demo: Streaming) -> None:
    error = '{"Id":"demo.Fails","Code":409,"Detail":"enough","Status":"Conflict"}'
    lines = await site.http.get("/demo/fails?after=1")
    assert lines.text == f'0\n{{"error":{error}}}\n'
    events = await site.http.get("/demo/fails?after=1", headers=EVENTS)
    assert events.text == f"retry: 2000\n\ndata: 0\n\nevent: error\ndata: {error}\n\n"


async def test_a_message_is_there_before_the_next_one(site: Any, demo: Streaming) -> None:
    async with site.http.stream("GET", "/demo/waits?first=now") as answer:
        parts = answer.aiter_text()
        assert await anext(parts) == '"now"\n'
        assert demo.ended == []
        demo.let.set()
        assert [part async for part in parts] == ['"last"\n']


async def test_an_answer_begins_soon_although_nothing_is_said(site: Any, demo: Streaming) -> None:
    async with site.http.stream("GET", "/demo/waits", headers=EVENTS) as answer:
        parts = answer.aiter_text()
        assert await anext(parts) == "retry: 2000\n\n"
        assert demo.ended == []


async def test_events_are_beaten_while_nothing_is_said(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with (
        open_site(platform, beat=0.02) as site,
        site.http.stream("GET", "/demo/waits?first=now", headers=EVENTS) as answer,
    ):
        text = ""
        async for part in answer.aiter_text():
            text += part
            if text.count(": ping\n\n") == 2:
                break
        assert text.startswith('retry: 2000\n\ndata: "now"\n\n: ping\n\n')


async def test_what_is_ready_is_one_write(site: Any, demo: Streaming) -> None:
    async with site.http.stream("GET", "/demo/count?to=500") as answer:
        parts = [part async for part in answer.aiter_raw()]
    assert b"".join(parts).count(b"\n") == 500
    assert len(parts) < 50


async def test_head_opens_nothing(site: Any, demo: Streaming) -> None:
    answer = await site.http.head("/demo/waits", headers=EVENTS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert demo.entered == 0


async def test_metadata_and_time_travel_with_a_stream(site: Any, demo: Streaming) -> None:
    told = (await site.http.get("/demo/told", headers={"foo": "bar"})).json()
    assert told["metadata"]["Foo"] == "bar"
    assert told["left"] is None
    told = (await site.http.get("/demo/told", headers={"micro-timeout": "20m"})).json()
    assert 1100 < told["left"] <= 1200


async def test_the_time_of_a_stream_ends_it(site: Any, demo: Streaming) -> None:
    answer = await site.http.get("/demo/waits?first=x", headers={"micro-timeout": "500ms"})
    first, last = answer.text.splitlines()
    assert first == '"x"'
    assert json.loads(last)["error"]["Code"] == 504
    answer = await site.http.get("/demo/waits", headers={"micro-timeout": "50ms"})
    assert answer.status_code == 504


@pytest.mark.parametrize("path", ["/demo/waits?first=x", "/demo/waits", "/demo/endless"])
async def test_a_client_that_goes_away_cancels_its_stream(
    platform: Bench, open_site: OpenSite, demo: Streaming, path: str
) -> None:
    async with open_site(platform, patience=0.02) as site:
        line = await site.line()
        await line.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await site.eventually(lambda: demo.entered or demo.sent)
        line.leave()
        await site.eventually(lambda: demo.ended)
    assert demo.ended in (["CancelledError"], ["endless"])


@pytest.mark.parametrize("headers", ["", "Accept: text/event-stream\r\n"])
async def test_a_client_that_does_not_read_holds_the_service_up(
    platform: Bench, open_site: OpenSite, demo: Streaming, headers: str
) -> None:
    async with open_site(platform, patience=0.02) as site:
        head = f"GET /demo/endless?size=10000 HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        with site.deaf(head.encode()):
            await site.eventually(lambda: demo.sent)
            # What the kernel holds at both ends, and no more than a window here.
            assert await site.settled(lambda: demo.sent) * 10_000 < 10_000_000
        await site.eventually(lambda: demo.ended)


async def test_streams_are_limited(platform: Bench, open_site: OpenSite, demo: Streaming) -> None:
    async with open_site(platform, max_streams=1) as site:
        async with site.http.stream("GET", "/demo/waits?first=x"):
            refused = await site.http.get("/demo/count?to=1")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert (await site.http.get("/demo/once")).status_code == 200
        await site.eventually(lambda: demo.ended)
        assert (await site.http.get("/demo/count?to=1")).status_code == 200


async def test_a_gateway_that_stops_says_so(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site:
        async with site.http.stream("GET", "/demo/waits?first=x") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == '"x"'
            await site.gateway.end_streams(0)
            assert json.loads(await anext(lines))["error"]["Code"] == 503
        assert (await site.http.get("/demo/count?to=1")).status_code == 503
    assert demo.ended == ["CancelledError"]


async def test_a_stream_that_outlives_the_drain_is_told(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform, drain=0.05) as site:
        line = await site.line()
        await line.send(b"GET /demo/waits?first=x HTTP/1.0\r\nHost: x\r\n\r\n")
        await site.eventually(lambda: demo.entered)
        reading = asyncio.create_task(line.rest())
    assert b'{"error":{"Id":"gateway","Code":503' in await reading


# What clients stream.


async def test_a_body_of_lines_is_streamed(site: Any, demo: Streaming) -> None:
    answer = await site.http.post("/demo/total?start=5", content=b"1\n2\r\n\n3", headers=SENT)
    assert answer.content == b"11"
    assert answer.headers["content-type"] == "application/json"
    answer = await site.http.post("/demo/scale?by=2", content=b"1\n2\n", headers=SENT)
    assert answer.text == "2\n4\n"


async def test_a_body_that_is_no_lines_is_the_request(site: Any, demo: Streaming) -> None:
    assert (await site.http.post("/demo/total", json={"start": 5})).content == b"5"
    assert (await site.http.get("/demo/total?start=5")).content == b"5"


async def test_one_answer_is_a_stream_for_who_asks_for_one(site: Any, demo: Streaming) -> None:
    answer = await site.http.post("/demo/total", content=b"1\n2", headers=SENT | LINES)
    assert answer.text == "3\n"


async def test_items_are_answered_while_they_come(site: Any, demo: Streaming) -> None:
    more: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while part := await more.get():
            yield part

    line = await site.line()
    head = b"POST /demo/scale?by=3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    await line.send(head + b"Content-Type: application/x-ndjson\r\n\r\n")
    await line.send(b"4\r\n1\n2\n\r\n")
    assert await line.until(b"6\n") == b"3\n6\n"
    await line.send(b"3\r\n1\n2\r\n")
    assert await line.until(b"3\n") == b"3\n"
    await line.send(b"2\r\n0\n\r\n0\r\n\r\n")
    assert await line.until(b"60\n") == b"60\n"
    await site.eventually(lambda: demo.ended == ["end"])


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"1\nnonsense\n", "malformed"),
        (b'1\n"x"\n', "expected `int`, got `str`"),
        (b"1\n\xff\n", "malformed"),
        (b"[[\n", "expected `int`, got `array`"),
    ],
)
async def test_a_line_that_is_wrong_is_a_400(
    site: Any, demo: Streaming, content: bytes, detail: str
) -> None:
    answer = await site.http.post("/demo/total", content=content, headers=SENT)
    assert answer.status_code == 400
    assert detail in answer.json()["Detail"]


async def test_a_line_that_never_ends_is_refused(site: Any, demo: Streaming) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65536 + 2):
            yield b"1" * 65536

    answer = await site.http.post("/demo/total", content=body(), headers=SENT)
    assert answer.status_code == 413
    assert "a line of the body is over the limit" in answer.json()["Detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100\r\n\r\n1\n2",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\n1\n2\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\n1\n2\r\nzz\r\n",
    ],
)
async def test_a_body_that_breaks_off_is_no_end(
    platform: Bench, open_site: OpenSite, demo: Streaming, body: bytes
) -> None:
    async with open_site(platform, patience=0.02) as site:
        line = await site.line()
        head = b"POST /demo/scale HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        await line.send(head + body)
        await site.eventually(lambda: demo.heard == [1])
        line.leave()
        await site.eventually(lambda: demo.ended)
    assert demo.ended == ["CancelledError"]
    assert demo.heard == [1]


async def test_who_sends_too_fast_is_held_up(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    item = b'"%b"\n' % (b"x" * 60_000)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 2000:
            sent += 1
            yield item

    async with open_site(platform) as site:
        sending = asyncio.create_task(site.http.post("/demo/unread", content=body(), headers=SENT))
        assert await site.settled(lambda: sent) * len(item) < 40_000_000
        demo.let.set()
        assert (await sending).text == '"here"\n'
        assert sum(map(int, map(str, demo.heard))) == 2000 * 60_000


async def test_lines_for_who_takes_none_are_refused(site: Any, demo: Streaming) -> None:
    answer = await site.http.post("/demo/count", content=b"1\n2\n", headers=SENT)
    assert answer.status_code == 400
    answer = await site.http.post(
        "/demo/total", content=b"1", headers=SENT | {"content-encoding": "gzip"}
    )
    assert answer.status_code == 400


async def test_an_error_need_not_wait_for_the_rest_of_the_body(site: Any, demo: Streaming) -> None:
    line = await site.line()
    head = b"POST /demo/total HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    await line.send(head + b"Transfer-Encoding: chunked\r\n\r\n4\r\n1\nx\n\r\n")
    assert (await line.answer()).status == 400
    line.leave()


async def test_curl_reads_a_stream_as_it_comes(site: Any, demo: Streaming) -> None:
    curl = shutil.which("curl")
    assert curl
    process = await asyncio.create_subprocess_exec(
        curl,
        "-sN",
        f"http://127.0.0.1:{site.port}/demo/waits?first=now",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b'"now"\n'
    demo.let.set()
    assert await process.stdout.read() == b'"last"\n'
    assert await process.wait() == 0


async def test_httpx_reads_a_long_stream_whole(site: Any, demo: Streaming) -> None:
    async with site.http.stream("GET", "/demo/count?to=20000") as answer:
        assert isinstance(answer, httpx.Response)
        numbers = [json.loads(line)["at"] async for line in answer.aiter_lines()]
    assert numbers == list(range(1, 20001))
