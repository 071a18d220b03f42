"""gRPC-Web on the gateway's port, spoken by Connect's client in Node, and byte by byte."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import gzip
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx
import msgspec
import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from microcosmos import Context, Service, errors
from microcosmos.gateway.grpcweb import open_grpc_web
from microcosmos.proxy import client
from microcosmos.proxy.server import serve_proxy
from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

# Pinned: each wants the others at its own version.
PACKAGES = ["@connectrpc/connect@2.1.2", "@connectrpc/connect-web@2.1.2", "@bufbuild/protobuf@2"]
KIND = "application/grpc-web"
GREET, COUNT = "/shop.Shop/Greet", "/shop.Shop/Count"
ANN, HELLO_ANN = b"\x0a\x03Ann", b"\x0a\x09Hello Ann\x10\x00\x1a\x00"

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]


class Greeting(msgspec.Struct):
    msg: str
    big: int
    data: bytes


class Shop:
    """A service that greets, counts, fails and stands."""

    def __init__(self) -> None:
        self.stood = asyncio.Event()
        self.seen: dict[str, str] = {}
        self.service = Service("shop")
        self.service.endpoint(self.greet)
        self.service.endpoint(self.count)

    async def greet(self, name: str, context: Context, big: int = 0, data: bytes = b"") -> Greeting:
        self.seen = dict(context.metadata)
        if name == "nobody":
            raise errors.Forbidden("shop.Greet", "not 100 % you, Jürgen")
        if name == "late":
            await asyncio.Event().wait()
        return Greeting(f"Hello {name}", big, data)

    async def count(self, to: int, fail: bool = False, stand: bool = False) -> AsyncIterator[int]:
        for number in range(to):
            yield number
        if stand:
            try:
                await asyncio.Event().wait()
            finally:
                self.stood.set()
        if fail:
            raise errors.Conflict("shop.Count", "no more")


class Web(NamedTuple):
    """A gateway before a proxy before a shop."""

    site: Any
    shop: Shop
    socket: Path

    async def post(
        self, path: str, body: bytes, kind: str = KIND, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        response = await self.site.http.post(
            path, content=body, headers={"content-type": kind, **named}
        )
        assert response.status_code == 200
        return response

    async def fails(self, path: str, body: bytes, kind: str = KIND, **headers: str) -> Any:
        content = (await self.post(path, body, kind, **headers)).content
        messages, trailers = frames(plain(content) if "text" in kind else content)
        assert messages == []
        return int(trailers["grpc-status"]), unquote(trailers["grpc-message"])


@pytest.fixture
def opened(platform: Bench, open_site: OpenSite, tmp_path: Path) -> Any:
    @asynccontextmanager
    async def open_all(**settings: Any) -> AsyncIterator[Web]:
        shop, socket = Shop(), tmp_path / "p.sock"
        await platform.start(shop.service)
        on = platform.platform
        async with (
            serve_proxy("127.0.0.1:0", on.client, on.table, socket=socket),
            open_grpc_web(f"unix:{socket}") as web,
            open_site(platform, grpc_web=web, **settings) as site,
        ):
            yield Web(site, shop, socket)

    return open_all


def plain(text: bytes) -> bytes:
    """What base64 says, each part of which has been padded for itself."""
    return b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+={0,2}", text))


def frame(message: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of a body, and its trailers, which come last."""
    found = []
    while body:
        flags, size = body[0], int.from_bytes(body[1:5], "big")
        found.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    *messages, (flags, last) = found
    assert flags == 0x80
    assert all(flags == 0 for flags, _ in messages)
    lines = last.decode().rstrip("\r\n").split("\r\n")
    return [data for _, data in messages], dict(line.split(": ", 1) for line in lines)


async def test_a_call_is_answered_with_trailers_in_the_body(opened: Any) -> None:
    async with opened() as web:
        response = await web.post(GREET, frame(ANN), micro_trace="b" * 32)
        messages, trailers = frames(response.content)
    assert messages == [HELLO_ANN]
    assert trailers == {"grpc-status": "0", "micro-trace": "b" * 32}
    assert response.headers["content-type"] == KIND


async def test_the_text_form_is_base64_both_ways(opened: Any) -> None:
    async with opened() as web:
        for sent in (
            base64.b64encode(frame(ANN)),
            # Padded parts, and lines, as some clients send them.
            base64.b64encode(frame(ANN)[:4]) + b"\r\n" + base64.b64encode(frame(ANN)[4:]),
        ):
            response = await web.post(GREET, sent, f"{KIND}-text")
            assert response.headers["content-type"] == f"{KIND}-text"
            assert frames(plain(response.content))[0] == [HELLO_ANN]


async def test_packed_messages_are_unpacked_within_the_limit(opened: Any) -> None:
    async with opened() as web:
        packed = frame(gzip.compress(ANN), flags=1)
        response = await web.post(GREET, packed, grpc_encoding="gzip")
        assert frames(response.content)[0] == [HELLO_ANN]
        bomb = frame(gzip.compress(bytes(MAX_BODY + 2**20)), flags=1)
        assert await web.fails(GREET, bomb, grpc_encoding="gzip") == (
            8,
            f"a message is over the limit of {MAX_BODY} bytes",
        )
        code, text = await web.fails(GREET, packed, grpc_encoding="br")
        assert (code, text) == (12, "grpc-encoding 'br': use gzip")
        code, _ = await web.fails(GREET, frame(ANN, flags=1), grpc_encoding="gzip")
        assert code == 3


@pytest.mark.parametrize(
    ("body", "kind", "headers", "code", "text"),
    [
        (frame(ANN)[:-1], KIND, {}, 3, "the last message of the body is cut off"),
        (b"\0", KIND, {}, 3, "the last message of the body is cut off"),
        (b"", KIND, {}, 3, "has no request"),
        (frame(b"\xff"), KIND, {}, 3, "the payload is no message shop.GreetRequest"),
        (b"*", f"{KIND}-text", {}, 3, "the body is no base64"),
        (frame(ANN), f"{KIND}+thrift", {}, 12, "use +proto or +json"),
        (frame(ANN), KIND, {"grpc_timeout": "soon"}, 3, "grpc-timeout 'soon' is none"),
        (frame(ANN), KIND, {"x_bin": "*"}, 3, "the header x-bin is no base64"),
        (frame(b"\x0a\x06nobody"), KIND, {}, 7, "not 100 % you, Jürgen"),
        (frame(b"\x0a\x04late"), KIND, {"grpc_timeout": "50m"}, 4, ""),  # told by either side
        (frame(b'{"name":1}'), f"{KIND}+json", {}, 3, "name"),
    ],
)
async def test_what_goes_wrong_is_told_in_the_trailers(
    opened: Any, body: bytes, kind: str, headers: dict[str, str], code: int, text: str
) -> None:
    async with opened() as web:
        told = await web.fails(GREET, body, kind, **headers)
    assert told[0] == code
    assert text in told[1]


async def test_unknown_names_are_the_proxys_to_refuse(opened: Any) -> None:
    async with opened() as web:
        assert (await web.fails("/nobody.Nobody/Call", frame(b"")))[0] == 5
        assert (await web.fails("/nonsense", frame(b"")))[0] == 5
        # What is no gRPC-Web goes the usual way.
        assert (await web.site.http.get(GREET)).status_code == 404
        assert (await web.site.http.post(GREET, json={})).status_code == 404
        assert (await web.site.http.post("/shop/greet", json={"name": "x"})).status_code == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(opened: Any) -> None:
    async with opened() as web:
        code, text = await web.fails(GREET, frame(bytes(MAX_BODY + 1)))
    assert (code, text) == (8, f"the body is over the limit of {MAX_BODY} bytes")


async def test_metadata_and_deadlines_are_passed_on(opened: Any) -> None:
    async with opened() as web:
        await web.post(
            GREET,
            frame(ANN),
            foobar="1",
            authorization="Bearer x",
            some_bin=base64.b64encode(b"\0\xff").decode(),
            x_grpc_web="1",
            x_user_agent="connect-es",
            grpc_timeout="5S",
        )
        seen = web.shop.seen
    assert (seen["Foobar"], seen["Authorization"]) == ("1", "Bearer x")
    for hidden in ("X-Grpc-Web", "X-User-Agent", "Content-Type", "Host", "Some-Bin"):
        assert hidden not in seen


async def test_a_page_of_another_origin_may_ask_and_see_everything(opened: Any) -> None:
    async with opened() as web:
        asked = {
            "origin": "http://page.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-grpc-web,grpc-timeout",
        }
        allowed = await web.site.http.options(GREET, headers=asked)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "http://page.example"
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["access-control-allow-headers"].startswith("*")
        response = await web.post(GREET, frame(ANN), origin="http://page.example")
    assert response.headers["access-control-allow-origin"] == "http://page.example"
    exposed = response.headers["access-control-expose-headers"]
    assert {"grpc-status", "grpc-message"} <= set(exposed.split(", "))


async def test_messages_of_a_stream_come_as_they_are_sent(opened: Any) -> None:
    async with opened() as web:
        request = web.site.http.build_request(
            "POST", COUNT, content=frame(b"\x08\x02\x18\x01"), headers={"content-type": KIND}
        )
        response = await web.site.http.send(request, stream=True)
        got = b""
        async for part in response.aiter_raw():
            got += part
            if len(got) == 14:
                break
        assert got == frame(b"\x08\x00") + frame(b"\x08\x01")
        assert not web.shop.stood.is_set()
        # A client that goes away cancels the handler.
        await response.aclose()
        await asyncio.wait_for(web.shop.stood.wait(), 60)


async def test_without_its_proxy_the_gateway_says_so(opened: Any, open_site: OpenSite) -> None:
    async with opened() as web:
        bench = web.site.bench
        async with (
            open_grpc_web(f"unix:{web.socket}.gone") as gone,
            open_site(bench, grpc_web=gone) as site,
        ):
            told = await Web(site, web.shop, web.socket).fails(GREET, frame(ANN))
        assert told == (14, "the proxy is away; try again later")
        async with open_site(bench) as site:
            kind = {"content-type": KIND}
            assert (await site.http.post(GREET, content=b"", headers=kind)).status_code == 404


@pytest.fixture(scope="session")
def packages() -> Path:
    """A folder with Connect's client, installed once for all runs on this machine."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = Path.home() / ".cache" / "microcosmos-tests" / "connect"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules" / "@connectrpc" / "connect-web").exists():
            options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
            subprocess.run(
                ["npm", "install", *options, *PACKAGES],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["binary", "json"])
async def test_connects_client_calls_and_streams(
    opened: Any, packages: Path, tmp_path: Path, form: str
) -> None:
    async with opened() as web:
        data = await asyncio.to_thread(client.describe, f"unix:{web.socket}", "shop")
        known = FileDescriptorProto.FromString(struct_pb2.DESCRIPTOR.serialized_pb)
        files = FileDescriptorSet(file=[known, FileDescriptorProto.FromString(data)])
        described = tmp_path / "files"
        described.write_bytes(files.SerializeToString())
        script = Path(__file__).with_name("grpcweb.cjs")
        url = f"http://127.0.0.1:{web.site.port}"
        ran = await asyncio.to_thread(
            subprocess.run,
            ["node", script, packages, url, described, form],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        await asyncio.wait_for(web.shop.stood.wait(), 60)
    said = json.loads(ran.stdout)
    # By the client's own clock or by ours, whichever is sooner; each has its words for it.
    code, words, details = said.pop("late")
    assert (code, details) == ("DeadlineExceeded", [])
    assert words in ("the operation timed out", "Stream removed (Deadline Exceeded)")
    assert said == {
        "greeting": {"msg": "Hello Ann", "big": "9007199254740993", "data": [1, 255]},
        "trace": "a" * 32,
        "ticks": [0, 1, 2],
        "refused": ["PermissionDenied", "not 100 % you, Jürgen", ["errors.Error"]],
        "wrong": ["InvalidArgument", "object missing required field `name`", ["errors.Error"]],
        "some": [0, 1],
        "broken": "no more",
        "aborted": "Canceled",
    }
