"""Blocking streams through the proxy, as a command line elsewhere has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.proxy.remote import ProxyStream
from microcosmos.rpc import Call
from microcosmos.rpc.server import CALLER, ITEMS

Proxy = Callable[..., Any]
Make = Callable[..., Any]


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def fail(after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    raise errors.Conflict("ticks.Fail", "no more of them")


async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


async def scale(by: int, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
    async for number in numbers:
        yield by * number


class Endless:
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def pour(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            self.ended.set()


def _call(method: str, body: bytes = b"{}", timeout: float | None = 20) -> Call:
    return Call("ticks", f"Ticks.{method}", body, {"Foo": "bar"}, timeout)


def _read(address: str, call: Call, about: dict[str, str], items: list[bytes]) -> list[bytes]:
    with ProxyStream(address, call, about) as stream:

        def send() -> None:
            for item in items:
                stream.send(item)
            stream.end()

        sending = threading.Thread(target=send)
        sending.start()
        messages = list(stream)
        sending.join()
        return messages


@pytest.mark.parametrize(
    ("method", "body", "about", "items", "messages"),
    [
        ("Count", b'{"to":3}', {}, [], [b"0", b"1", b"2"]),
        ("Count", b'{"to":0}', {}, [], []),
        ("Total", b"{}", {CALLER: "client"}, [b"1", b"2"], [b"3"]),
        (
            "Scale",
            b'{"by":2}',
            {CALLER: "both", ITEMS: "numbers"},
            [b"%d" % number for number in range(500)],
            [b"%d" % (2 * number) for number in range(500)],
        ),
    ],
)
async def test_a_stream_goes_through(
    proxy: Proxy,
    service: Make,
    method: str,
    body: bytes,
    about: dict[str, str],
    items: list[bytes],
    messages: list[bytes],
) -> None:
    async with proxy(service("ticks", count, total, scale)) as door:
        call = _call(method, body)
        assert await asyncio.to_thread(_read, door.address, call, about, items) == messages


async def test_a_stream_ends_by_its_error(proxy: Proxy, service: Make) -> None:
    async with proxy(service("ticks", fail)) as door:
        with pytest.raises(errors.Conflict, match="no more of them"):
            await asyncio.to_thread(_read, door.address, _call("Fail", b'{"after":2}'), {}, [])


async def test_a_stream_that_is_left_cancels_its_handler(proxy: Proxy, service: Make) -> None:
    endless = Endless()

    def leave() -> bytes:
        with ProxyStream(door.address, _call("Pour"), {}) as stream:
            return next(iter(stream))

    async with proxy(service("ticks", endless.pour)) as door:
        assert len(await asyncio.to_thread(leave)) == 1002
        async with asyncio.timeout(60):
            await endless.ended.wait()


async def test_nobody_there_is_said(proxy: Proxy, service: Make) -> None:
    async with proxy(service("ticks", count)) as door:
        address = door.address
    with pytest.raises(errors.Unavailable, match="cannot be reached as a proxy"):
        await asyncio.to_thread(_read, address, _call("Count"), {}, [])
