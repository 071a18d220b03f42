"""WebSockets, frame by frame: what no client of others would send."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

from .streaming import Streaming

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HEAD = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def demo(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Streaming]:
    demo = Streaming()
    microcosmos_runner.run(platform.start(demo.service))
    yield demo
    demo.let.set()


def frame(opcode: int, data: bytes = b"", *, last: bool = True, masked: bool = True) -> bytes:
    """A frame as a client sends it."""
    first = bytes([opcode | (0x80 if last else 0)])
    bit = 0x80 if masked else 0
    size = len(data)
    if size < 126:
        head = first + bytes([bit | size])
    elif size < 65536:
        head = first + bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([bit | 127]) + struct.pack("!Q", size)
    # A mask of zeros changes nothing.
    return head + (bytes(4) if masked else b"") + data


class Socket:
    """A WebSocket of which each byte is ours."""

    def __init__(self, line: Any) -> None:
        self.line = line

    async def send(self, *frames: bytes) -> None:
        await self.line.send(b"".join(frames))

    async def receive(self) -> tuple[int, bytes]:
        """The next frame."""
        first, size = await self.line.read(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.line.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.line.read(8))
        return first & 0x0F, await self.line.read(size)

    async def closed(self) -> int:
        """The code of the close frame; other frames are passed over."""
        while True:
            opcode, data = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(data[:2])


@asynccontextmanager
async def opened(site: Any, path: str) -> AsyncIterator[Socket]:
    line = await site.line()
    await line.send(HEAD.format(path=path).encode())
    assert (await line.answer()).status == 101
    yield Socket(line)
    line.leave()


async def test_fragments_are_one_message(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/scale") as socket:
        await socket.send(frame(TEXT, b"1", last=False), frame(CONT, b"2", last=False))
        await socket.send(frame(PING, b"between"), frame(CONT, b"3"))
        assert await socket.receive() == (PONG, b"between")
        assert await socket.receive() == (TEXT, b"123")


async def test_a_frame_may_come_byte_by_byte(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/scale") as socket:
        for byte in frame(TEXT, b"42"):
            await socket.send(bytes([byte]))
        assert await socket.receive() == (TEXT, b"42")


async def test_many_messages_may_come_at_once(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/total") as socket:
        await socket.send(*[frame(TEXT, b"1")] * 5000, frame(TEXT))
        assert await socket.receive() == (TEXT, b"5000")
        assert await socket.receive() == (CLOSE, b"\x03\xe8")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(TEXT, b"1", masked=False)], 1002),
        ([frame(3, b"1")], 1002),
        ([frame(0x0B, b"")], 1002),
        ([frame(0x40 | TEXT, b"1")], 1002),
        ([frame(CONT, b"1")], 1002),
        ([frame(TEXT, b"1", last=False), frame(TEXT, b"2")], 1002),
        ([frame(PING, b"x" * 126)], 1002),
        ([frame(PING, b"x", last=False)], 1002),
        ([frame(CLOSE, b"\x03")], 1002),
        ([frame(CLOSE, b"\x00\x01")], 1002),
        ([frame(TEXT, b"\xff")], 1007),
        ([frame(TEXT, b"\xe2\x82", last=False), frame(CONT, b"x")], 1007),
        ([frame(TEXT, b"1" * (MAX_BODY + 1))], 1009),
        ([frame(TEXT, b"1" * MAX_BODY, last=False), frame(CONT, b"1")], 1009),
    ],
)
async def test_what_breaks_the_rules_closes_the_socket(
    site: Any, demo: Streaming, frames: list[bytes], code: int
) -> None:
    async with opened(site, "/demo/scale") as socket:
        await socket.send(*frames)
        assert await socket.closed() == code
        socket.line.leave()
        await site.eventually(lambda: demo.ended)


async def test_a_length_that_is_too_great_is_refused_at_once(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/scale") as socket:
        await socket.send(bytes([0x80 | TEXT, 0x80 | 127]) + struct.pack("!Q", 2**62) + bytes(4))
        assert await socket.closed() == 1009


async def test_a_character_may_be_divided(site: Any, demo: Streaming) -> None:
    demo.let.set()
    euro = '"€"'.encode()
    async with opened(site, "/demo/unread") as socket:
        assert await socket.receive() == (TEXT, b'"here"')
        await socket.send(frame(TEXT, euro[:2], last=False), frame(CONT, euro[2:]), frame(TEXT))
        assert await socket.closed() == 1000
    assert demo.heard == [1]


async def test_a_close_is_answered(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x") as socket:
        await socket.send(frame(CLOSE, b"\x0f\xa1why"))
        assert await socket.closed() == 4001
        assert await socket.line.closed()
        await site.eventually(lambda: demo.ended)


async def test_nothing_counts_after_a_close(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/scale") as socket:
        await socket.send(frame(TEXT, b"1"), frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"2"))
        assert await socket.closed() == 1000
        await site.eventually(lambda: demo.ended)
    assert demo.heard in ([], [1])


async def test_a_client_that_answers_no_ping_is_lost(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform, beat=0.02) as site, opened(site, "/demo/waits") as socket:
        for _ in range(4):
            assert await socket.receive() == (PING, b"")
        assert await socket.line.closed()
        await site.eventually(lambda: demo.ended)


async def test_a_client_that_answers_pings_is_never_lost(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform, beat=0.01) as site, opened(site, "/demo/waits") as socket:
        for _ in range(20):
            assert await socket.receive() == (PING, b"")
            await socket.send(frame(PONG))
        demo.let.set()
        assert await socket.closed() == 1000


async def test_a_client_that_is_held_up_is_not_lost(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform, beat=0.02) as site, opened(site, "/demo/unread") as socket:
        assert await socket.receive() == (TEXT, b'"here"')
        item = frame(TEXT, b'"%b"' % (b"x" * 60_000))
        await socket.send(*[item] * 20, frame(TEXT))
        for _ in range(10):
            assert await socket.receive() == (PING, b"")
        demo.let.set()
        assert await socket.closed() == 1000
    assert demo.heard == [60_000] * 20


async def test_a_client_that_does_not_read_holds_the_service_up(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site:
        with site.deaf(HEAD.format(path="/demo/endless?size=10000").encode()):
            await site.eventually(lambda: demo.sent)
            assert await site.settled(lambda: demo.sent) * 10_000 < 10_000_000
        await site.eventually(lambda: demo.ended)


async def test_pings_without_end_do_not_fill_the_memory(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with open_site(platform) as site:
        with site.deaf(HEAD.format(path="/demo/waits?first=x").encode()) as connection:
            await site.eventually(lambda: demo.entered)
            connection.setblocking(False)
            ping = frame(PING, b"x" * 125)
            pings = ping * 500
            sent = 0

            def flood() -> int:
                nonlocal sent
                # A gateway that has had enough may also end the connection.
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    while True:
                        sent += connection.send(pings[sent % len(ping) :])
                return sent

            assert await site.settled(flood) < 20_000_000
        await site.eventually(lambda: demo.ended)


async def test_a_client_that_only_begins_to_close_is_cut_off_in_time(
    site: Any, demo: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microcosmos.gateway.streams.websocket.CLOSING", 0.02)
    async with opened(site, "/demo/count?to=1") as socket:
        assert await socket.receive() == (TEXT, b'{"at":1}')
        assert await socket.closed() == 1000
        assert await socket.line.closed()


@pytest.mark.parametrize(
    "wrong",
    [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
    ],
)
async def test_a_wrong_handshake_is_refused(
    site: Any, demo: Streaming, wrong: tuple[str, str]
) -> None:
    answer = await site.send(HEAD.format(path="/demo/count?to=1").replace(*wrong).encode())
    assert answer.status == 400
