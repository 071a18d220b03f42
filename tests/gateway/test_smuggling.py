"""Requests that two servers could read differently: one answer at most, and then the end.

Each is sent with a second request behind it, of which a proxy would not know. It must not be
answered as one of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from microcosmos import Service

HIDDEN = b"GET /target/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


class Target:
    """A service that knows whether its hidden endpoint was reached."""

    def __init__(self) -> None:
        self.hidden = 0
        self.bodies: list[str] = []
        self.service = Service("target")
        self.service.endpoint(name="Call")(self._call)
        self.service.endpoint(name="Hidden")(self._hidden)

    async def _call(self, a: str = "") -> str:
        self.bodies.append(a)
        return "call"

    async def _hidden(self) -> str:
        self.hidden += 1
        return "hidden"


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def site(platform: Any, open_site: Any, microcosmos_runner: asyncio.Runner) -> Iterator[Any]:
    """A gateway that soon closes connections on which nothing more comes."""
    opened = open_site(platform, header_timeout=0.5)
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


async def _answers(site: Any, sent: bytes) -> list[int]:
    """The status of every answer to these bytes, until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(60):
            return [int(status) for status in _STATUS.findall(await reader.read())]
    except ConnectionError:
        return []
    finally:
        writer.close()


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST /target HTTP/1.1", b"Host: x", *lines, b"", body))


CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

REFUSED = {
    "two lengths": _post(b"Content-Length: 0", b"Content-Length: 41"),
    "two lengths in one": _post(b"Content-Length: 0, 41"),
    "length with a sign": _post(b"Content-Length: +0"),
    "negative length": _post(b"Content-Length: -1"),
    "hexadecimal length": _post(b"Content-Length: 0x0"),
    "length of a word": _post(b"Content-Length: zero"),
    "length that overflows": _post(b"Content-Length: 18446744073709551616"),
    "empty length": _post(b"Content-Length: "),
    "unknown coding": _post(b"Transfer-Encoding: xchunked", body=END),
    "chunked is not last": _post(b"Transfer-Encoding: chunked, identity", body=END),
    "identity": _post(b"Transfer-Encoding: identity", b"Content-Length: 0"),
    "chunked with a control": _post(b"Transfer-Encoding: \x0bchunked", body=END),
    "quoted coding": _post(b'Transfer-Encoding: "chunked"', body=END),
    "coding in two lines": _post(CHUNKED, b"Transfer-Encoding: identity", body=END),
    "blank before the colon": _post(b"Transfer-Encoding : chunked", body=END),
    "blank before the length's colon": _post(b"Content-Length : 0"),
    "folded line": _post(b"Transfer-Encoding:\r\n chunked", body=END),
    "folded by a tab": _post(b"X: y\r\n\tTransfer-Encoding: chunked", body=END),
    "first line is folded": b"GET /target HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
    "bare CR in a value": _post(b"X: y\rTransfer-Encoding: chunked", body=END),
    "NUL in a value": _post(b"X: y\0z"),
    "NUL in a name": _post(b"X\0Y: z"),
    "name with a blank": _post(b"X Y: z"),
    "line without a colon": _post(b"Transfer-Encoding chunked", body=END),
    "chunk size with a sign": _post(CHUNKED, body=b"+0\r\n\r\n"),
    "chunk size with 0x": _post(CHUNKED, body=b"0x0\r\n\r\n"),
    "negative chunk": _post(CHUNKED, body=b"-1\r\n\r\n"),
    "chunk size that overflows": _post(CHUNKED, body=b"10000000000000000\r\nx\r\n" + END),
    "chunk longer than it says": _post(CHUNKED, body=b"1\r\nxy\r\n" + END),
    "chunk ended by LF": _post(CHUNKED, body=b"1\nx\n0\n\n"),
    "chunk size ended by LF": _post(CHUNKED, body=b"2\n{}\r\n" + END),
    "chunk extension with LF": _post(CHUNKED, body=b"0;a\nb\r\n\r\n"),
    "no chunk size": _post(CHUNKED, body=b"\r\n\r\n"),
    "version 9": b"GET /target HTTP/9.9\r\nHost: x\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /target HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n" + END,
    "two blanks": b"GET  /target HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab": b"GET\t/target\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "method with a colon": b"GE:T /target HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_is_refused_and_nothing_behind_it_is_read(
    site: Any, platform: Any, target: Target, name: str
) -> None:
    await platform.start(target.service)
    statuses = await _answers(site, REFUSED[name] + HIDDEN)
    assert len(statuses) <= 1, statuses
    assert all(400 <= status < 500 or status in (501, 505) for status in statuses), statuses
    assert target.hidden == 0
    assert (await site.http.get("/target")).status_code == 200


# The chunks count, as the standard has it, and the connection ends with the answer.
CHUNKS_WIN = {
    "length and chunks": _post(b"Content-Length: 5", CHUNKED, body=END),
    "chunks and length": _post(CHUNKED, b"Content-Length: 5", body=END),
    "length beyond the chunks": _post(b"Content-Length: 48", CHUNKED, body=END),
}


@pytest.mark.parametrize("name", CHUNKS_WIN)
async def test_chunks_win_and_the_connection_ends(
    site: Any, platform: Any, target: Target, name: str
) -> None:
    await platform.start(target.service)
    assert await _answers(site, CHUNKS_WIN[name] + HIDDEN) == [200]
    assert target.hidden == 0


# These are unusual, yet mean one thing only; they are answered as what they are.
ONE_MEANING = {
    "chunk extension": _post(CHUNKED, body=b"2;a=b\r\n{}\r\n0;c\r\n\r\n"),
    "two equal lengths": _post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "name in capitals": _post(b"TRANSFER-ENCODING: CHUNKED", body=b"2\r\n{}\r\n" + END),
    "absolute form": b"GET http://x/target HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute form of another host": b"GET http://y/target HTTP/1.1\r\nHost: x\r\n\r\n",
    "length of a GET": b"GET /target HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "chunks of a GET": b"GET /target HTTP/1.1\r\nHost: x\r\n"
    + CHUNKED
    + b"\r\n\r\n2\r\n{}\r\n"
    + END,
    "bare LF": b"GET /target HTTP/1.1\nHost: x\n\n",
    "leading blank lines": b"\r\n\r\nGET /target HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", ONE_MEANING)
async def test_is_answered_once(site: Any, platform: Any, target: Target, name: str) -> None:
    await platform.start(target.service)
    statuses = await _answers(site, ONE_MEANING[name])
    assert len(statuses) == 1, statuses
    assert target.hidden == 0


@pytest.mark.parametrize("name", ["length of a GET", "chunks of a GET", "chunk extension"])
async def test_a_body_is_not_a_request(site: Any, platform: Any, target: Target, name: str) -> None:
    """The hidden request stands inside of the body."""
    await platform.start(target.service)
    whole = b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN)
    sent = {
        "length of a GET": b"GET /target HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        % (len(HIDDEN), HIDDEN),
        "chunks of a GET": b"GET /target HTTP/1.1\r\nHost: x\r\n"
        + CHUNKED
        + b"\r\n\r\n"
        + whole
        + END,
        "chunk extension": _post(CHUNKED, body=b"%x;a=b\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + END),
    }
    assert len(await _answers(site, sent[name])) == 1
    assert target.hidden == 0
