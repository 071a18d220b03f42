"""What is too large, too slow or malformed is refused early, and nothing hangs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psutil
import pytest

from microcosmos import Service
from microcosmos.gateway.handing import answers
from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

MIB = 1024 * 1024
POST = b"POST /sink HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
AGAIN = b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n" + b'{"data":""}'

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]


class Sink:
    """A service that counts what it gets."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.service = Service("sink")
        self.service.endpoint(name="Call")(self._call)
        self.service.endpoint(name="Much")(self._much)

    async def _call(self, data: str = "default") -> int:
        self.calls.append(data)
        return len(data)

    async def _much(self) -> str:
        return "x" * (8 * MIB - 2)


def body_of(size: int) -> bytes:
    return b'{"data":"' + b"x" * (size - 11) + b'"}'


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_up_to_the_limit_is_taken(site: Any, chunked: bool) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    sent = body_of(MAX_BODY)

    async def parts() -> Any:
        for start in range(0, MAX_BODY, 100_000):
            yield sent[start : start + 100_000]

    answer = await site.http.post("/sink", content=parts() if chunked else sent)
    assert (answer.status_code, answer.json()) == (200, MAX_BODY - 11)


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(site: Any) -> None:
    line = await site.line()
    await site.bench.start(Sink().service)
    await line.send(POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    answer = await line.answer()
    assert answer.status == 413
    assert b'"Detail":"the body is over the limit of 8388608 bytes"' in answer.body
    line.leave()


async def test_who_asks_before_sending_is_told_not_to(site: Any) -> None:
    await site.bench.start(Sink().service)
    line = await site.line()
    await line.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    assert (await line.answer()).status == 413
    assert await line.closed()
    line = await site.line()
    await line.send(POST + b"Expect: 100-continue\r\nContent-Length: 11\r\n\r\n")
    assert (await line.answer()).status == 100
    await line.send(b'{"data":""}')
    assert (await line.answer()).body == b"0"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", [b"/sink", b"/nobody"])
async def test_a_refused_body_is_thrown_away_and_the_connection_lives(
    site: Any, chunked: bool, path: bytes
) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    line = await site.line()
    memory = psutil.Process().memory_info().rss
    part = b"x" * MIB
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n" % path
    if chunked:
        await line.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            await line.send(b"100000\r\n" + part + b"\r\n")
        await line.send(b"0\r\n\r\n")
    else:
        await line.send(head + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            await line.send(part)
    assert (await line.answer()).status == (413 if path == b"/sink" else 404)
    await line.send(AGAIN)
    assert (await line.answer()).body == b"0"
    assert sink.calls == [""]
    assert psutil.Process().memory_info().rss - memory < 40 * MIB


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\n{}   \r\nZZ\r\nabc\r\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"2\r\n{}\r\n-1\r\n\r\n",
        b"2\r\n{}\r\nFFFFFFFFFFFFFFFFF\r\nx",
        b"2\r\n{}\r\n0x2\r\n  \r\n0\r\n\r\n",
        b"2;a\nb\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
    ],
)
async def test_a_body_with_bad_chunks_reaches_nobody(site: Any, body: bytes) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    answer = await site.send(CHUNKED + body)
    assert answer.status == 400
    assert b"the body broke off, or its chunks are malformed" in answer.body
    assert sink.calls == []


@pytest.mark.parametrize(
    "head",
    [CHUNKED + b"2\r\n{}\r\n", POST + b"Content-Length: 10\r\n\r\n{}"],
    ids=["chunked", "length"],
)
async def test_a_body_that_breaks_off_reaches_nobody(
    site: Any, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    before = set(asyncio.all_tasks())
    line = await site.line()
    await line.send(head)
    await site.eventually(lambda: _requests(before))
    line.leave()
    await site.eventually(lambda: not _requests(before))
    assert sink.calls == []
    assert "failed" not in caplog.text


def _requests(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    new = asyncio.all_tasks() - before
    return [task for task in new if answers(task)]


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        POST + b"Content-Length: 2, 3\r\n\r\n{} ",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: -2\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        POST + b"Content-Length: 0x2\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nX: a\r\n b\r\n\r\n{}",
        POST + b"Content-Length : 2\r\n\r\n{}",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /sink HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /sink HTTP/9.9\r\n\r\n",
        b"POST  /sink HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /sink\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_refused_and_its_connection_closed(
    site: Any, head: bytes
) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    line = await site.line()
    await line.send(head)
    try:
        assert (await line.answer()).status == 400
    except asyncio.IncompleteReadError as exc:
        assert exc.partial == b""  # noqa: PT017 - closed without a word is an answer too
    assert await line.closed()
    assert sink.calls == []


@pytest.mark.parametrize(
    "both",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ],
)
async def test_nothing_is_smuggled_behind_a_body_of_two_lengths(site: Any, both: bytes) -> None:
    sink = Sink()
    await site.bench.start(sink.service)
    line = await site.line()
    smuggled = b"GET /sink?data=smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    await line.send(POST + both + b"\r\n0\r\n\r\n" + smuggled)
    # Chunks win, as RFC 9112 has it, and the connection ends with this answer.
    assert (await line.answer()).headers["connection"] == "close"
    assert await line.closed()
    assert sink.calls == ["default"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(101)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431),
        (b"GET /?" + b"a" * 65_536 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"a" * 300_000, 431),
    ],
)
async def test_headers_without_end_are_refused(site: Any, head: bytes, status: int) -> None:
    line = await site.line()
    await line.send(head)
    assert (await line.answer()).status == status
    assert await line.closed()


async def test_headers_within_the_limits_are_taken(site: Any) -> None:
    headers = {f"x-{number}": "v" * 500 for number in range(90)}
    assert (await site.http.get("/", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "start",
    [b"", b"G", b"PRI * HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nX: 1\r\n\r"],
)
async def test_a_client_that_never_ends_its_headers_is_dropped(
    platform: Bench, open_site: OpenSite, start: bytes
) -> None:
    async with open_site(platform, header_timeout=0.1) as site:
        line = await site.line()
        await line.send(start)
        assert await line.closed()


async def test_an_idle_connection_is_closed(platform: Bench, open_site: OpenSite) -> None:
    async with open_site(platform, header_timeout=0.5) as site:
        line = await site.line()
        await line.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await line.answer()).status == 200
        assert await line.closed()


@pytest.mark.parametrize("head", [CHUNKED + b"2\r\n{", POST + b"Content-Length: 9\r\n\r\n{"])
async def test_a_body_that_comes_too_slowly_is_a_408(
    platform: Bench, open_site: OpenSite, head: bytes
) -> None:
    sink = Sink()
    await platform.start(sink.service)
    async with open_site(platform, body_timeout=0.1) as site:
        line = await site.line()
        await line.send(head)
        answer = await line.answer()
        assert answer.status == 408
        assert b'"Detail":"the body did not arrive within 0.1 s"' in answer.body
        assert await line.closed()
    assert sink.calls == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this timeout")
async def test_a_client_that_does_not_take_its_answer_is_dropped(
    platform: Bench, open_site: OpenSite
) -> None:
    await platform.start(Sink().service)
    async with open_site(platform, write_timeout=0.2, drain=0.1) as site:
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            own = client.getsockname()[1]
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /sink/much HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.to_thread(client.recv, 1)
            assert _connected(site.port, own)
            await site.eventually(lambda: not _connected(site.port, own))


def _connected(port: int, client: int) -> bool:
    """Whether this process still has the server's end of a connection."""
    return any(
        connection.laddr.port == port and connection.raddr and connection.raddr.port == client
        for connection in psutil.Process().net_connections("tcp")
    )


async def test_requests_may_follow_each_other_without_waiting(site: Any) -> None:
    await site.bench.start(Sink().service)
    line = await site.line()
    await line.send(AGAIN * 20)
    assert [(await line.answer()).body for _ in range(20)] == [b"0"] * 20
