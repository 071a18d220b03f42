"""What a function is told of a request, and how its answer comes back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from microcosmos import Service, errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Live, Share


async def test_a_function_answers_its_family(open_functions, live):
    async with open_functions(live("hello")) as running:
        answer = await running.http.get("/hello/a/b?x=1&y=%20ü")
        assert (answer.status_code, answer.text) == (200, "hello")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        [asked] = running.worker.seen
        port = running.site.port
    assert asked.method == "GET"
    assert asked.url == f"http://127.0.0.1:{port}/hello/a/b?x=1&y=%20%C3%BC"
    assert (asked.params, asked.path, asked.body) == ("", "a/b", b"")
    assert asked.names["host"] == f"127.0.0.1:{port}"
    assert len(asked.names["micro-trace"]) == 32


async def test_other_paths_go_where_they_went(open_functions, live, platform):
    service = Service("greeter")

    @service.endpoint
    async def call(name: str = "World") -> str:
        return name

    await platform.start(service)
    async with open_functions(live("hello"), live("greeter.special")) as running:
        for path, expected in (("/greeter", "World"), ("/greeter/call?name=x", "x")):
            assert (await running.http.get(path)).json() == expected
        assert (await running.http.get("/greeter/special")).text == "hello"
        assert (await running.http.get("/healthz")).status_code == 200
        assert (await running.http.get("/app/nobody/x")).status_code == 404
        assert len(running.worker.seen) == 1


async def test_functions_come_change_and_go(open_functions, live):
    async with open_functions() as running:
        assert running.site.gateway._functions is None
        assert (await running.http.get("/hello")).status_code == 404
        running.tell(live("hello"))
        assert (await running.http.get("/hello")).status_code == 200
        running.tell(live("hello", "/users/{id}", number=2))
        missing = await running.http.get("/hello/other")
        assert (missing.status_code, missing.json()["Id"]) == (404, "hello")
        assert "/users/{id}" in missing.json()["Detail"]
        assert (await running.http.get("/app/hello/users/7")).status_code == 200
        assert running.worker.seen[-1].params == '{"id":"7"}'
        assert running.placing.asked[-1].number == 2
        running.tell(gone=("hello",))
        assert (await running.http.get("/hello")).status_code == 404
        assert running.site.gateway._functions is None
        # Those of another namespace are not here.
        share = Share(number=1, key="k", engine="quickjs")
        running.tell(Live(namespace="other", name="hello", owner="joe", shares=[share]))
        assert running.site.gateway._functions is None


@pytest.mark.parametrize(
    ("path", "url", "below"),
    [
        ("/hello/a%2Fb", "/hello/a/b", "a/b"),
        ("/hello/a%20b", "/hello/a%20b", "a b"),
        ("/hello/100%25", "/hello/100%25", "100%"),
        ("/hello/%3Fa%23b", "/hello/%3Fa%23b", "?a#b"),
        ("/hello/%C3%BC", "/hello/%C3%BC", "ü"),
        ("/hello/a%0Ab", "/hello/a%0Ab", "a\nb"),
        ("/hello/a+b:c@d", "/hello/a+b:c@d", "a+b:c@d"),
        ("//hello//x", "//hello//x", "x"),
        ("/app/hello/x", "/app/hello/x", "x"),
        ("/hello?", "/hello", ""),
    ],
)
async def test_paths_are_told_as_they_were_meant(open_functions, live, path, url, below):
    async with open_functions(live("hello")) as running:
        answer = await running.site.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert answer.status == 200
        [asked] = running.worker.seen
    assert (asked.url, asked.path) == (f"http://h{url}", below)


@pytest.mark.parametrize(
    "path", ["/hello/../etc", "/hello/%2e%2e/x", "/hello/a%2F..%2Fb", "/hello/%00", "/hello/%FF"]
)
async def test_tricks_with_paths_are_refused(open_functions, live, path):
    async with open_functions(live("hello")) as running:
        answer = await running.site.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert answer.status == 400
        assert json.loads(answer.body)["Id"] == "functions"
        assert not running.worker.seen


@pytest.mark.parametrize("host", ["a b", "a/../b", "a?b", 'a"b', "user@a", "a:x"])
async def test_a_host_that_is_none_is_refused(open_functions, live, host):
    async with open_functions(live("hello")) as running:
        answer = await running.site.send(f"GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.status == 400
        assert not running.worker.seen


async def test_headers_come_as_they_were_sent(open_functions, live):
    sent = (
        b"GET /hello HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\nConnection: keep-alive\r\n"
        b"TE: trailers\r\nMicro-Trace: not one\r\nMicro-Client-Address: 1.2.3.4\r\n"
        b"Authorization: Basic eDp5\r\nCookie: a=1; micro-token=secret; b=2\r\n\r\n"
    )
    async with open_functions(live("hello")) as running:
        assert (await running.site.send(sent)).status == 200
        [asked] = running.worker.seen
    trace = asked.headers.pop()
    assert trace[0] == "micro-trace"
    assert len(trace[1]) == 32
    assert asked.headers == [
        ("host", "h"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("authorization", "Basic eDp5"),
        ("cookie", "a=1; b=2"),
    ]


async def test_tokens_of_ours_are_not_for_functions(open_functions, live):
    async with open_functions(live("hello")) as running:
        headers = {"authorization": "Bearer x.y.z", "cookie": "micro-token=secret"}
        assert (await running.http.get("/hello", headers=headers)).status_code == 200
        [asked] = running.worker.seen
    assert not {"authorization", "cookie"} & asked.names.keys()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
async def test_any_method_is_the_functions_own(open_functions, live, method):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.reply(
            said.asked.method.encode(), wire.GIVEN, 201, [("access-control-allow-origin", "*")]
        )
        answer = await running.http.request(method, "/hello", headers={"origin": "http://x"})
        assert (answer.status_code, answer.text) == (201, method)
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        (wire.TEXT, "text/plain; charset=utf-8"),
        (wire.HTML, "text/html; charset=utf-8"),
        (wire.JSON, "application/json"),
        (wire.BYTES, "application/octet-stream"),
        (wire.GIVEN, None),
    ],
)
async def test_kinds_tell_content_types(open_functions, live, kind, content_type):
    async with open_functions(live("hello")) as running:
        for status, headers in ((200, None), (418, None), (200, [("x-a", "1")])):
            running.worker.program = lambda said, status=status, headers=headers: said.reply(
                b"x", kind, status, headers
            )
            answer = await running.http.get("/hello")
            assert (answer.status_code, answer.content) == (status, b"x")
            assert answer.headers.get("content-type") == content_type
            assert ("x-content-type-options" in answer.headers) == (kind == wire.TEXT)
        given = [("Content-Type", "text/css")]
        running.worker.program = lambda said: said.reply(b"x", kind, 200, given)
        answer = await running.http.get("/hello")
        assert answer.headers.get_list("content-type") == ["text/css"]


async def test_headers_of_an_answer_come_as_they_were_given(open_functions, live):
    given = [
        *(("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-Ü".replace("Ü", "U"), "ä")),
        *(("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Content-Length", "99")),
    ]
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.reply(b"abc", wire.GIVEN, 200, given)
        answer = await running.http.get("/hello")
    assert answer.text == "abc"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["content-length"] == "3"
    assert dict(answer.headers.raw)[b"x-u"] == "ä".encode()
    assert "connection" not in answer.headers


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [("bad name", "x")]),
        (200, [("", "x")]),
        (200, [("x", "a\r\nset-cookie: b=1")]),
        (200, [("x", "a\0")]),
        (200, [("x", 1)]),
        (200, {"x": "y"}),
        (200, [("x", "y" * 70_000)]),
        (199, None),
        (101, None),
        (600, None),
        (0, None),
    ],
)
async def test_answers_that_cannot_be_sent_are_the_functions_fault(
    open_functions, live, caplog, status, headers
):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.reply(b"x", wire.TEXT, status, headers)
        with caplog.at_level(logging.WARNING, "microcosmos.gateway"):
            line = await running.site.line()
            for _ in range(2):
                # The connection stays good.
                await line.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
                answer = await line.answer()
                assert answer.status == 500
                assert json.loads(answer.body)["Id"] == "functions.answer"
        assert "/hello cannot be answered" in caplog.text


async def test_an_answer_of_nonsense_is_a_lost_worker(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.say(2, b"x")
        answer = await running.http.post("/hello")
        assert (answer.status_code, answer.json()["Id"]) == (503, "functions.lost")


async def test_head_has_headers_alone(open_functions, live):
    async with open_functions(live("hello")) as running:
        answer = await running.http.head("/hello")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "5"
        assert running.worker.seen[0].method == "HEAD"

        async def streams(said):
            said.say(2, wire.pack_reply(200, wire.TEXT | wire.STREAMED))
            await said.cancelled.wait()

        running.worker.program = streams
        assert (await running.http.head("/hello")).content == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(open_functions, live, status):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.reply(
            b"x", wire.GIVEN, status, [("etag", '"1"')]
        )
        line = await running.site.line()
        for _ in range(2):
            await line.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await line.answer()
            assert (answer.status, answer.headers["etag"], answer.body) == (status, '"1"', b"")


async def test_errors_of_a_function_have_our_form(open_functions, live):
    async with open_functions(live("hello")) as running:
        failure = errors.InternalServerError("functions.exception", "its log says why")
        running.worker.program = lambda said: said.fail(failure)
        answer = await running.http.get("/hello")
        assert answer.status_code == 500
        assert answer.json() == {
            "Id": "functions.exception",
            "Code": 500,
            "Detail": "its log says why",
            "Status": "Internal Server Error",
        }
        assert answer.headers["micro-trace"] == running.worker.seen[0].names["micro-trace"]


async def test_a_place_that_there_is_not_is_told(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.placing.failure = errors.InternalServerError("functions.load", "line 1: oops")
        answer = await running.http.post("/hello", content=b"x")
        assert (answer.status_code, answer.json()["Id"]) == (500, "functions.load")


async def test_functions_take_no_websockets(open_functions, live):
    async with open_functions(live("hello")) as running:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://127.0.0.1:{running.site.port}/hello"):
                pass
        assert caught.value.response.status_code == 400
        assert b"take no WebSockets" in caught.value.response.body
        assert not running.worker.seen


async def test_short_bodies_come_whole(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: said.reply(said.asked.body, wire.BYTES)
        for body in (b"{}", bytes(range(256)) * 1000):
            answer = await running.http.post("/hello", content=body)
            assert answer.content == body


async def test_long_bodies_stream_both_ways(open_functions, live):
    digest = hashlib.sha256()

    async def echo(said):
        said.say(2, wire.pack_reply(200, wire.BYTES | wire.STREAMED))
        while (part := await said.parts.get()) is not None:
            said.take(len(part))
            await said.send(part)
        said.end()

    body = bytes(range(256)) * 20_000
    digest.update(body)
    async with open_functions(live("hello")) as running:
        running.worker.program = echo
        answer = await running.http.post("/hello", content=body)
        assert hashlib.sha256(answer.content).digest() == digest.digest()
        assert running.worker.seen[0].body == b""

        async def parts():
            for at in range(0, 1_000_000, 100_000):
                yield body[at : at + 100_000]

        answer = await running.http.post("/hello", content=parts())
        assert answer.content == body[:1_000_000]


async def test_a_function_that_reads_nothing_holds_its_client_up(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: None
        size = 8 * 1024 * 1024
        head = f"POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"
        line = await running.site.line()
        await line.send(head.encode())
        sending = asyncio.ensure_future(line.send(bytes(size)))
        await running.site.eventually(lambda: running.worker._under_way)
        [said] = running.worker._under_way.values()
        taken = await running.site.settled(lambda: said.parts.qsize())
        assert 0 < sum(len(said.parts.get_nowait()) for _ in range(taken)) <= 2 * wire.WINDOW
        said.reply(b"enough")
        assert (await line.answer()).body == b"enough"
        sending.cancel()


async def test_an_answer_is_sent_as_fast_as_its_client_reads(open_functions, live):
    sent = 0

    async def pours(said):
        nonlocal sent
        said.say(2, wire.pack_reply(200, wire.BYTES | wire.STREAMED))
        while True:
            await said.send(bytes(50_000))
            sent += 50_000

    async with open_functions(live("hello")) as running:
        running.worker.program = pours
        with running.site.deaf(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"):
            assert 0 < await running.site.settled(lambda: sent) < 16 * 1024 * 1024
        [said] = running.worker._under_way.values()
        await asyncio.wait_for(said.cancelled.wait(), 60)


async def test_an_answer_that_breaks_off_ends_its_connection(open_functions, live):
    async def breaks(said):
        said.say(2, wire.pack_reply(200, wire.TEXT | wire.STREAMED))
        await said.send(b"some")
        said.fail(errors.InternalServerError("functions.exception", "oops"))

    async with open_functions(live("hello")) as running:
        running.worker.program = breaks
        with pytest.raises(httpx.RemoteProtocolError):
            await running.http.get("/hello")


async def test_what_its_client_does_not_wait_for_is_cancelled(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: None
        line = await running.site.line()
        await line.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        await running.site.eventually(lambda: running.worker._under_way)
        line.leave()
        [said] = running.worker._under_way.values()
        await asyncio.wait_for(said.cancelled.wait(), 60)


async def test_a_body_that_breaks_off_ends_its_request(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: None
        line = await running.site.line()
        await line.send(b"POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\nabc")
        await running.site.eventually(lambda: running.worker._under_way)
        line.leave()
        [said] = running.worker._under_way.values()
        await asyncio.wait_for(said.cancelled.wait(), 60)


@pytest.mark.parametrize("length", [10, 500_000])
async def test_a_body_that_takes_too_long_is_refused(open_functions, live, length):
    async with open_functions(live("hello"), body_timeout=0.05) as running:
        running.worker.program = lambda said: None
        head = f"POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nabc"
        assert (await running.site.send(head.encode())).status == 408


async def test_who_cannot_wait_says_so(open_functions, live):
    async with open_functions(live("hello")) as running:
        running.worker.program = lambda said: None
        answer = await running.http.get("/hello", headers={"micro-timeout": "500ms"})
        assert (answer.status_code, answer.json()["Id"]) == (504, "functions.limit.wall")
        [said] = running.worker._under_way.values()
        await asyncio.wait_for(said.cancelled.wait(), 60)
        bad = await running.http.get("/hello", headers={"micro-timeout": "soon"})
        assert bad.status_code == 400


async def test_a_worker_that_dies_is_replaced_where_that_is_safe(open_functions, live):
    async with open_functions(live("hello")) as running:

        def once(said):
            if len(running.worker.seen) % 2:
                said.die()
            else:
                said.reply(b"again")

        running.worker.program = once
        for method in ("GET", "OPTIONS", "HEAD"):
            assert (await running.http.request(method, "/hello")).status_code == 200
        assert len(running.worker.seen) == 6
        lost = await running.http.post("/hello", content=b"x")
        assert (lost.status_code, lost.json()["Id"]) == (503, "functions.lost")
        assert len(running.worker.seen) == 7
        running.worker.seen.clear()
        # Never tried three times.
        running.worker.program = lambda said: said.die()
        lost = await running.http.get("/hello")
        assert (lost.status_code, lost.json()["Id"]) == (503, "functions.lost")
        assert len(running.worker.seen) == 2


async def test_what_was_dropped_is_loaded_again(open_functions, live):
    async with open_functions(live("hello")) as running:

        def known(said):
            if said.asked.slot == 1:
                said.fail(errors.NotFound("functions.unloaded", "no such slot"))
            else:
                said.reply(b"again")

        running.worker.program = known
        assert (await running.http.post("/hello", content=b"x")).text == "again"


async def test_both_versions_of_http2_reach_functions(open_functions, live):
    async with open_functions(live("hello"), http2=True) as running:
        running.worker.program = lambda said: said.reply(
            f"{said.asked.method} {said.asked.url} {said.asked.body.decode()}".encode(),
            wire.GIVEN,
            200,
            [("set-cookie", "a=1"), ("set-cookie", "b=2")],
        )
        url = f"http://127.0.0.1:{running.site.port}/hello/x?y=z"
        async with httpx.AsyncClient(http1=False, http2=True, timeout=60) as client:
            answer = await client.get(url)
            assert answer.text == f"GET {url} "
            assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
            assert answer.http_version == "HTTP/2"
            assert (await client.post(url, content=b"body")).text == f"POST {url} body"
        command = ("curl", "-sS", "--http2-prior-knowledge", "-i", url)
        curl = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        assert curl.stdout.startswith(b"HTTP/2 200")
        assert f"GET {url} ".encode() in curl.stdout
        command = ("curl", "-sS", "--http2-prior-knowledge", "-X", "DELETE", "-I", url)
        curl = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        assert curl.stdout.startswith(b"HTTP/2 200")
