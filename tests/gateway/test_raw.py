"""Endpoints that take whole requests: everything in, everything out, as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from microcosmos import Service, errors
from microcosmos.gateway.raw import forward

from .conftest import Site


class Files:
    """A service with raw endpoints of every kind."""

    def __init__(self, folder: Path) -> None:
        self.service = Service("files", concurrency=20)
        self.ended = asyncio.Event()
        self.let = asyncio.Event()
        self.read = 0
        (folder / "a.bin").write_bytes(bytes(range(256)) * 4000)
        service = self.service

        @service.endpoint
        async def call(name: str = "x") -> str:
            return name

        @service.http("/download/{name}")
        async def download(request: Request) -> Response:
            return FileResponse(folder / request.path_params["name"])

        @service.http("/echo/{rest:path}", methods=["GET", "POST", "PUT", "OPTIONS", "PURGE"])
        async def echo(request: Request) -> dict[str, Any]:
            body = await request.body()
            return {
                "method": request.method,
                "url": str(request.url),
                "rest": request.path_params["rest"],
                "headers": sorted(request.headers.items()),
                "size": len(body),
                "client": bool(request.client and request.client.port),
            }

        @service.http("/tally", methods=["POST"])
        async def tally(request: Request) -> str:
            async for part in request.stream():
                self.read += len(part)
                await self.let.wait()
            return str(self.read)

        @service.http("/ticks")
        async def ticks(request: Request) -> Response:
            async def tick() -> AsyncIterator[str]:
                try:
                    yield "first\n"
                    await self.let.wait()
                    yield "second\n"
                finally:
                    self.ended.set()

            return StreamingResponse(tick(), media_type="text/plain")

        @service.http("/endless")
        async def endless(request: Request) -> Response:
            async def pour() -> AsyncIterator[bytes]:
                try:
                    while True:
                        self.read += 1
                        yield bytes(10_000)
                finally:
                    self.ended.set()

            return StreamingResponse(pour())

        @service.http("/plain")
        def plain(request: Request) -> Any:
            kinds = {"text": "tëxt", "bytes": b"\x00\xff", "none": None, "json": [1], "tea": ...}
            kind = request.query_params["kind"]
            if kind == "tea":
                return Response("short and stout", 418, {"x-pot": "1", "connection": "close"})
            return kinds[kind]

        @service.http("/fails/{how}")
        def fails(request: Request) -> Response:
            how = request.path_params["how"]
            if how == "error":
                raise errors.Conflict("files.Fails", "taken")
            if how == "http":
                raise HTTPException(402, "pay first")
            if how == "early":
                raise RuntimeError("a secret")

            async def late() -> AsyncIterator[bytes]:
                yield bytes(100)
                await self.let.wait()
                raise RuntimeError("a secret")

            return StreamingResponse(late())


@pytest.fixture
def files(site: Site, tmp_path: Path, microcosmos_runner: asyncio.Runner) -> Files:
    made = Files(tmp_path)
    microcosmos_runner.run(site.bench.start(made.service))
    return made


async def settled(site: Site, number: Callable[[], int]) -> int:
    """A number once it has stopped growing: while others are served it stays as it is."""
    await site.eventually(number)
    same = 0
    while same < 20:
        before = number()
        await site.http.get("/files/call")
        same = same + 1 if number() == before else 0
    return number()


# Whole requests


async def test_a_request_arrives_whole(site: Site, files: Files) -> None:
    url = "/files/echo/a-b/c?q=1&q=2"
    answer = await site.http.request("PURGE", url, headers={"X-One": "1", "Te": "x"}, content=b"hi")
    told = answer.json()
    assert told["method"] == "PURGE"
    assert told["url"] == f"{site.http.base_url}{url}"
    assert told["rest"] == "a-b/c"
    assert told["size"] == 2
    assert told["client"]
    names = [name for name, _ in told["headers"]]
    assert "x-one" in names
    assert "te" not in names
    assert "connection" not in names


async def test_headers_that_come_twice_arrive_twice(site: Site, files: Files) -> None:
    answer = await site.send(
        b"GET /files/echo/x HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n"
    )
    assert b'["x-two","1"],["x-two","2"]' in answer.body


async def test_options_is_the_endpoints_own(site: Site, files: Files) -> None:
    answer = await site.http.options("/files/echo/x", headers={"Origin": "http://a"})
    assert answer.json()["method"] == "OPTIONS"
    assert "access-control-allow-origin" not in answer.headers


async def test_another_method_is_told_which_there_are(site: Site, files: Files) -> None:
    answer = await site.http.delete("/files/tally")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["Detail"] == "DELETE has no meaning here; it answers POST"


async def test_calls_of_the_same_service_are_answered_too(site: Site, files: Files) -> None:
    assert (await site.http.get("/files?name=jo")).json() == "jo"
    answer = await site.http.get("/files/download")
    assert answer.status_code == 404
    assert "no Files.Download" in answer.json()["Detail"]


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", "tëxt".encode()),
        ("bytes", 200, "application/octet-stream", b"\x00\xff"),
        ("none", 204, None, b""),
        ("json", 200, "application/json", b"[1]"),
        ("tea", 418, None, b"short and stout"),
    ],
)
async def test_what_a_function_returns_is_a_response(
    site: Site, files: Files, kind: str, status: int, content_type: str | None, body: bytes
) -> None:
    answer = await site.http.get(f"/files/plain?kind={kind}")
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers.get("content-type") == content_type
    assert ("x-pot" in answer.headers) == (kind == "tea")


# Files


async def test_a_file_is_downloaded_whole(site: Site, files: Files) -> None:
    answer = await site.http.get("/files/download/a.bin")
    assert answer.content == bytes(range(256)) * 4000
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "status", "size"),
    [("bytes=10-19", 206, 10), ("bytes=-5", 206, 5), ("bytes=9999999-", 416, None)],
)
async def test_a_part_of_a_file_is_downloaded(
    site: Site, files: Files, asked: str, status: int, size: int | None
) -> None:
    answer = await site.http.get("/files/download/a.bin", headers={"Range": asked})
    assert answer.status_code == status
    assert size is None or len(answer.content) == size


async def test_a_file_that_is_known_already_is_not_sent_again(site: Site, files: Files) -> None:
    first = await site.http.head("/files/download/a.bin")
    assert (first.content, int(first.headers["content-length"])) == (b"", 1_024_000)
    tag = first.headers["etag"]
    again = await site.http.get("/files/download/a.bin", headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    changed = await site.http.get("/files/download/a.bin", headers={"If-None-Match": '"x"'})
    assert changed.status_code == 200


async def test_a_file_that_is_missing_is_a_404_without_its_path(site: Site, files: Files) -> None:
    answer = await site.http.get("/files/download/b.bin")
    assert answer.status_code == 404
    assert answer.json()["Detail"] == "the file cannot be read: no such file or directory"


# As it comes


async def test_a_response_comes_in_pieces(site: Site, files: Files) -> None:
    async with site.http.stream("GET", "/files/ticks") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "first"
        files.let.set()
        assert await anext(lines) == "second"
    assert files.ended.is_set()


async def test_a_client_that_leaves_ends_the_response(site: Site, files: Files) -> None:
    async with site.http.stream("GET", "/files/ticks") as answer:
        await anext(answer.aiter_lines())
    async with asyncio.timeout(60):
        await files.ended.wait()


async def test_a_client_that_does_not_read_holds_the_handler_up(site: Site, files: Files) -> None:
    line = await site.line()
    await line.send(b"GET /files/endless HTTP/1.1\r\nHost: a\r\n\r\n")
    # Once the buffers on the way are full nothing more is asked of the handler.
    # Half of it is what the reader of the test itself takes in.
    assert await settled(site, lambda: files.read) * 10_000 < 64_000_000
    line.leave()
    async with asyncio.timeout(60):
        await files.ended.wait()


async def test_an_upload_is_taken_no_faster_than_it_is_read(site: Site, files: Files) -> None:
    sent = 0

    async def pour() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            yield bytes(100_000)
            sent += 100_000

    uploading = asyncio.create_task(site.http.post("/files/tally", content=pour()))
    assert await settled(site, lambda: sent) < 32_000_000
    files.let.set()
    assert (await uploading).text == "40000000"


async def test_an_upload_that_breaks_off_ends_the_handler(site: Site, files: Files) -> None:
    line = await site.line()
    await line.send(b"POST /files/tally HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n12345")
    await site.eventually(lambda: files.read == 5)
    line.leave()
    files.let.set()
    await site.eventually(lambda: _active(site) == 0)


async def test_an_upload_over_the_limit_is_refused(
    site: Site, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MAX_UPLOAD", 1000)
    files.let.set()
    answer = await site.http.post("/files/tally", content=bytes(2000))
    assert answer.status_code == 413


def _active(site: Site) -> int:
    network = site.bench.platform._network  # type: ignore[attr-defined]
    return sum(server.active for server in network._servers["files"])


# Failures


@pytest.mark.parametrize(
    ("how", "status", "detail"),
    [
        ("error", 409, "taken"),
        ("http", 402, "pay first"),
        ("early", 500, "the handler failed; its log has the cause"),
    ],
)
async def test_a_failure_is_an_error_as_of_every_endpoint(
    site: Site, files: Files, how: str, status: int, detail: str
) -> None:
    answer = await site.http.get(f"/files/fails/{how}")
    assert answer.status_code == status
    assert answer.json()["Detail"] == detail


async def test_a_failure_in_mid_response_is_seen_by_its_client(site: Site, files: Files) -> None:
    async with site.http.stream("GET", "/files/fails/late") as answer:
        parts = answer.aiter_bytes()
        assert await anext(parts) == bytes(100)
        files.let.set()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await anext(parts)


# Applications


async def test_an_application_is_mounted_with_its_lifespan(site: Site) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        steps.append("start")
        yield {"word": "hello"}
        steps.append("end")

    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{number}")
    async def item(number: int, request: Request) -> dict[str, Any]:
        return {"number": number, "word": request.state.word}

    service = Service("shop")
    service.mount("/api", app)
    service.endpoint(name="Call")(_hello)
    async with service.on(site.bench.platform):
        assert steps == ["start"]
        answer = await site.http.get("/shop/api/items/7")
        assert answer.json() == {"number": 7, "word": "hello"}
        assert (await site.http.get("/shop/api/items/x")).status_code == 422
        assert (await site.http.get("/shop/api/nothing")).json() == {"detail": "Not Found"}
        assert (await site.http.get("/shop/call")).json() == "hello"
        assert (await site.http.get("/shop/other")).status_code == 404
        openapi = (await site.http.get("/shop/api/openapi.json")).json()
        assert openapi["servers"] == [{"url": "/shop/api"}]
    assert steps == ["start", "end"]


async def _hello() -> str:
    return "hello"


async def test_an_application_may_have_all_that_is_left(site: Site) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = f"{scope['root_path']} {scope['path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    service = Service("v1.whole")
    service.mount("/", app)
    service.endpoint(name="Call")(_hello)
    await site.bench.start(service)
    assert (await site.http.get("/v1/whole/any/thing")).text == "/v1/whole /v1/whole/any/thing"
    assert (await site.http.get("/v1/whole/call")).json() == "hello"


async def test_an_application_that_cannot_start_keeps_its_service_from_starting(site: Site) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    service = Service("shop")
    service.mount("/", FastAPI(lifespan=lifespan))
    with pytest.raises(RuntimeError, match="no database"):
        await site.bench.start(service)


async def test_an_application_that_answers_nothing_is_a_500(site: Site) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    service = Service("silent")
    service.mount("/", app)
    await site.bench.start(service)
    assert (await site.http.get("/silent/x")).status_code == 500


# Declarations


@pytest.mark.parametrize(
    ("path", "methods", "told"),
    [
        ("avatars", ["GET"], "is no path"),
        ("/a b", ["GET"], "is no path"),
        ("/{a", ["GET"], "is no path"),
        ("/{a:float}", ["GET"], "is no path"),
        ("/a", ["get"], "is no method"),
        ("/a", [], "answers some method"),
    ],
)
def test_a_bad_declaration_is_refused_where_it_is_written(
    path: str, methods: list[str], told: str
) -> None:
    with pytest.raises(TypeError, match=told):
        Service("files").http(path, methods=methods)(lambda request: None)


def test_a_path_to_mount_at_has_no_fields() -> None:
    with pytest.raises(TypeError, match="no path to mount at"):
        Service("files").mount("/{id}", FastAPI())


# WebSockets of applications


def _talkative() -> tuple[Service, asyncio.Event]:
    app, left = FastAPI(), asyncio.Event()

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    left.set()
                    return
                if message.get("bytes") is not None:
                    await socket.send_bytes(message["bytes"][::-1])
                elif message["text"] == "enough":
                    await socket.close(4321, "as asked")
                    return
                else:
                    await socket.send_text(f"{socket.url.path} {message['text']}")
        finally:
            left.set()

    @app.websocket("/closed")
    async def closed(socket: WebSocket) -> None:
        await socket.close()

    @app.websocket("/fails")
    async def fails(socket: WebSocket) -> None:
        await socket.accept()
        raise RuntimeError("a secret")

    service = Service("talk")
    service.mount("/ws", app)
    return service, left


async def test_a_websocket_of_an_application_carries_texts_and_bytes(site: Site) -> None:
    service, left = _talkative()
    await site.bench.start(service)
    url = f"ws://127.0.0.1:{site.port}/talk/ws/echo"
    async with connect(url, proxy=None) as socket:
        await socket.send("hi")
        assert await socket.recv() == "/talk/ws/echo hi"
        await socket.send(b"\x00\x01\xff")
        assert await socket.recv() == b"\xff\x01\x00"
        await socket.send("")
        assert await socket.recv() == "/talk/ws/echo "
    async with asyncio.timeout(60):
        await left.wait()


async def test_an_application_closes_with_its_own_code(site: Site) -> None:
    await site.bench.start(_talkative()[0])
    url = f"ws://127.0.0.1:{site.port}/talk/ws/echo"
    async with connect(url, proxy=None) as socket:
        await socket.send("enough")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4321, "as asked")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/talk/ws/closed", 403), ("/talk/ws/nothing", 403), ("/talk/other", 404), ("/files/x", 404)],
)
async def test_a_websocket_that_is_not_let_in_is_told(site: Site, path: str, status: int) -> None:
    await site.bench.start(_talkative()[0])
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{site.port}{path}", proxy=None):
            pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"{}")["Code"] == status


async def test_a_websocket_from_elsewhere_is_not_let_in(site: Site) -> None:
    await site.bench.start(_talkative()[0])
    url = f"ws://127.0.0.1:{site.port}/talk/ws/echo"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, proxy=None, origin="http://elsewhere"):
            pass
    assert refused.value.response.status_code == 403


async def test_an_application_that_fails_closes_its_websocket(site: Site) -> None:
    await site.bench.start(_talkative()[0])
    url = f"ws://127.0.0.1:{site.port}/talk/ws/fails"
    async with connect(url, proxy=None) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4500
        assert "secret" not in (socket.close_reason or "")
