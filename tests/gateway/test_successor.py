"""A gateway whose place another one takes: nobody's request is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import Serving, serve
from microcosmos.testing import Bench

from .conftest import eventually

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s\r\n"


class Named:
    """An application that says who it is."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.let = asyncio.Event()
        self.entered = 0

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        if scope.path == "/wait":
            self.entered += 1
            await self.let.wait()
        proto.response_bytes(200, [], self.name)


class Client:
    """Asks again and again, on one connection as long as that lasts, or on one for each."""

    def __init__(self, port: int, *, keep: bool) -> None:
        self.port = port
        self.keep = keep
        self.answers: list[bytes] = []

    async def run(self, stop: asyncio.Event) -> None:
        head = GET % (b"" if self.keep else b"Connection: close\r\n")
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            closing = False
            while not closing and not stop.is_set():
                writer.write(head)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200"), answer
                self.answers.append(await reader.readexactly(3))
                closing = b"connection: close" in answer
            writer.close()


@contextlib.asynccontextmanager
async def two() -> AsyncIterator[tuple[int, Named, Serving, Named, contextlib.AsyncExitStack]]:
    """A gateway and its successor on the same socket; the stack closes the first one."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listening.getsockname()[1]
    old, new = Named(b"old"), Named(b"new")
    async with contextlib.AsyncExitStack() as both, contextlib.AsyncExitStack() as first:
        again = listening.dup()
        serving = await first.enter_async_context(serve(old, listening))
        await both.enter_async_context(serve(new, again))
        yield port, old, serving, new, first


async def test_no_request_is_lost_while_one_leaves() -> None:
    async with two() as (port, _, serving, _, first), asyncio.timeout(60):
        stop = asyncio.Event()
        clients = [Client(port, keep=bool(n % 3)) for n in range(9)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run(stop))
            while any(b"old" not in client.answers[-50:] for client in clients[:1]):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await serving.leave(linger=0.1)
            await first.aclose()
            for client in clients:
                client.answers.clear()
            while any(len(client.answers) < 20 for client in clients):  # noqa: ASYNC110
                await asyncio.sleep(0)
            stop.set()
        assert {answer for client in clients for answer in client.answers} == {b"new"}


async def test_one_that_leaves_takes_no_new_connections() -> None:
    async with two() as (port, _, serving, _, _), asyncio.timeout(60):
        await serving.leave(linger=0)
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"")
            assert (await reader.readuntil(b"new")).endswith(b"new")
            writer.close()


async def test_what_is_under_way_is_finished() -> None:
    async with two() as (port, old, serving, new, first), asyncio.timeout(60):
        lines = []
        # The kernel gives a connection to either of them.
        while not old.entered:
            lines.append(await asyncio.open_connection("127.0.0.1", port))
            lines[-1][1].write((GET % b"").replace(b"/healthz", b"/wait"))
            await eventually(lambda: old.entered + new.entered == len(lines))
        await serving.leave(linger=0)
        leaving = asyncio.create_task(first.aclose())
        await asyncio.sleep(0)
        assert not leaving.done()
        old.let.set()
        new.let.set()
        answers = [await reader.readuntil(b"\r\n\r\n") for reader, _ in lines]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        await leaving
        for _, writer in lines:
            writer.close()


async def test_answers_say_that_the_connection_ends(platform: Bench) -> None:
    here = platform.platform
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    async with serve(Gateway(here.client, here.table), listening) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % b"")
        assert b"connection: close" not in await reader.readuntil(b"}")
        await serving.leave(linger=0)
        writer.write(GET % b"")
        async with asyncio.timeout(60):
            assert b"connection: close" in await reader.read()
        writer.close()
