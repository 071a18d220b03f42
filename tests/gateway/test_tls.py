"""TLS and HTTP/2 at the door, with curl and raw connections as clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base.tls import Files
from microcosmos.gateway.worker import serve
from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def curl(*arguments: str, data: bytes = b"") -> str:
    """What curl says: the body, then the version of HTTP and the status."""
    process = await asyncio.create_subprocess_exec(
        *("curl", "-s", "-S", "-m", "10", "-w", " %{http_version} %{http_code}", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(data)
    return said.decode()


async def connect(port: int, alpn: str = "", mint: Any = None, name: str = "") -> tuple[Any, Any]:
    """A raw TLS connection, with a client's certificate if one is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    if name:
        context.load_cert_chain(mint.folder / f"{name}.pem", mint.folder / f"{name}.key")
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes in time."""
    async with asyncio.timeout(60):
        try:
            while await reader.read(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True


@pytest.fixture
def files(mint: Any) -> Files:
    return Files(*mint.make())


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_clients_choose_a_version_in_the_handshake(
    platform: Bench, open_site: OpenSite, files: Files, version: str
) -> None:
    async with open_site(platform, tls=files, http2=True) as site:
        flags = (f"--http{version}", "--cacert", str(files.certificate))
        said = await curl(*flags, f"https://127.0.0.1:{site.port}/healthz")
        assert said == f'{{"status":"ok"}} {version} 200'


async def test_without_http2_there_is_none(
    platform: Bench, open_site: OpenSite, files: Files
) -> None:
    async with open_site(platform, tls=files) as site:
        said = await curl("--http2", "-k", f"https://127.0.0.1:{site.port}/healthz")
        assert said.endswith(" 1.1 200")


async def test_http2_by_prior_knowledge(platform: Bench, open_site: OpenSite) -> None:
    async with open_site(platform, http2=True) as site:
        url = f"http://127.0.0.1:{site.port}/healthz"
        assert (await curl("--http2-prior-knowledge", url)).endswith(" 2 200")
        assert (await curl(url)).endswith(" 1.1 200")
    async with open_site(platform) as site:
        url = f"http://127.0.0.1:{site.port}/healthz"
        assert (await curl("--http2-prior-knowledge", url)).endswith(" 0 000")


async def test_a_client_must_show_a_certificate_of_the_right_signer(
    platform: Bench, open_site: OpenSite, mint: Any
) -> None:
    certificate, key = mint.make()
    authority, _ = mint.make("authority")
    mint.make("friend", signed_by="authority")
    mint.make("stranger")
    tls = Files(certificate, key, authority)
    async with open_site(platform, tls=tls, http2=True) as site:
        url = f"https://127.0.0.1:{site.port}/healthz"

        def shown(name: str) -> tuple[str, ...]:
            folder = mint.folder
            return "--cert", str(folder / f"{name}.pem"), "--key", str(folder / f"{name}.key")

        assert (await curl("-k", *shown("friend"), url)).endswith(" 2 200")
        assert (await curl("-k", *shown("stranger"), url)).endswith(" 000")
        assert (await curl("-k", url)).endswith(" 000")


async def test_a_body_without_a_length_has_a_limit_too(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    slow.let.set()
    await platform.start(slow.service)
    async with open_site(platform, http2=True) as site:
        url = f"http://127.0.0.1:{site.port}/slow"
        flags = ("--http2-prior-knowledge", "-X", "POST", "-T", "-")
        assert await curl(*flags, url, data=b"{}") == '"done" 2 200'
        assert await curl(*flags, url, data=b"") == '"done" 2 200'
        assert (await curl(*flags, url, data=bytes(MAX_BODY + 1))).endswith(" 2 413")
        assert slow.calls == 2


async def test_a_body_that_breaks_off_is_no_body(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    async with open_site(platform, http2=True) as site:
        line = await site.line()
        # POST /slow, a part of its body, and the reset of its stream.
        headers = b"\x83\x86\x04\x05/slow\x01\x01x"
        await line.send(PREFACE + _frame(1, 4, headers) + _frame(0, 0, b"{}"))
        await line.send(_frame(3, 0, b"\0\0\0\x08"))
        assert (await site.http.get("/healthz")).status_code == 200
        # Frames of one connection are handled in order: the call would have been made by now.
        await line.send(_frame(1, 5, b"\x82\x86\x04\x08/healthz\x01\x01x", stream=3))
        assert b"ok" in await _until(line, b"ok")
        assert slow.calls == 0
        # It would not answer the ping with which a connection is ended.
        line.leave()


class Told:
    """An application that answers with the headers it was asked with."""

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        proto.response_bytes(200, [], msgspec.json.encode(scope.headers.items()))


async def test_requests_of_every_version_look_alike() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    async with serve(Told(), listening, http2=True):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        cookies = b"\x0f\x11\x03a=1\x0f\x11\x03b=2"
        writer.write(PREFACE + _frame(1, 5, b"\x82\x86\x84\x01\x04here" + cookies))
        told = b""
        async with asyncio.timeout(60):
            while b"]]" not in told:
                told += await reader.read(65536)
        told = told[told.index(b"[[") : told.index(b"]]") + 2]
        assert msgspec.json.decode(told) == [["cookie", "a=1; b=2"], ["host", "here"]]
        writer.close()


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    length = len(payload).to_bytes(3, "big")
    return length + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def _until(line: Any, text: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(60):
        while text not in seen:
            seen += await line._reader.read(65536)
    return seen


@pytest.mark.parametrize("sent", [b"", b"P", GET[:20], PREFACE, GET])
async def test_a_connection_without_requests_is_closed(
    platform: Bench, open_site: OpenSite, sent: bytes
) -> None:
    async with open_site(platform, http2=True, header_timeout=0.2) as site:
        line = await site.line()
        await line.send(sent)
        assert await line.closed()


@pytest.mark.parametrize("alpn", ["", "http/1.1", "h2"])
async def test_a_silent_connection_is_closed_after_its_handshake(
    platform: Bench, open_site: OpenSite, files: Files, alpn: str
) -> None:
    async with open_site(platform, tls=files, http2=True, header_timeout=0.2) as site:
        reader, writer = await connect(site.port, alpn)
        assert await ended(reader)
        writer.close()


async def test_a_connection_with_a_request_under_way_is_not_idle(
    platform: Bench, open_site: OpenSite, slow: Any
) -> None:
    await platform.start(slow.service)
    async with open_site(platform, http2=True, header_timeout=0.5) as site:
        busy, idle = await site.line(), await site.line()
        await busy.send(GET.replace(b"/ ", b"/slow "))
        await asyncio.wait_for(slow.entered.wait(), 60)
        # One that comes later is closed twice over before the answer is let.
        assert await idle.closed()
        later = await site.line()
        assert await later.closed()
        slow.let.set()
        assert (await busy.answer()).body == b'"done"'


async def test_an_answer_that_is_being_read_is_not_idle(
    platform: Bench, open_site: OpenSite
) -> None:
    from microcosmos import Service

    large = Service("large")

    @large.endpoint
    async def call() -> str:
        return "x" * (7 * 1024 * 1024)

    await platform.start(large)
    async with open_site(platform, http2=True, header_timeout=0.5) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(GET.replace(b"/ ", b"/large "))
        idle = await site.line()
        assert await idle.closed()
        later = await site.line()
        assert await later.closed()
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(7 * 1024 * 1024 + 2)
        assert head.startswith(b"HTTP/1.1 200")
        assert body.endswith(b'x"')
        writer.close()


async def test_a_key_that_is_gone_is_told(
    platform: Bench, open_site: OpenSite, tmp_path: Path
) -> None:
    with pytest.raises(OSError):
        async with open_site(platform, tls=Files(tmp_path / "no", tmp_path / "no")):
            pass
