"""What the tests of the gateway share: one that listens, a slow service, raw connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import httpx
import pytest

from microcosmos import Context, Service
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import serve
from microcosmos.testing import Bench

DEADLINE = 60.0

# Told of it, httpx does not read all authorities of the world for each client that speaks no TLS.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

_SERVING = ("drain", "header_timeout", "write_timeout", "tls", "http2")


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - other threads and the kernel change it
            await asyncio.sleep(0.005)


class Answer(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(DEADLINE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            pairs = (line.partition(": ") for line in lines)
            headers = {name: value for name, _, value in pairs}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return Answer(int(first.split()[1]), headers, body)

    async def until(self, end: bytes) -> bytes:
        """The parts of a chunked answer, its head left out, until they end so."""
        body = b""
        async with asyncio.timeout(DEADLINE):
            while not body.endswith(end):
                said = await self._reader.readline()
                if b":" in said or said.startswith(b"HTTP/") or said == b"\r\n":
                    continue
                body += await self._reader.readexactly(int(said, 16))
        return body

    async def read(self, size: int) -> bytes:
        """So many bytes."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read()

    async def closed(self) -> bool:
        """Whether the other side closes in time; what it still sends is thrown away."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(DEADLINE):
                while await self._reader.read(65536):
                    pass
                return True
        return False

    def leave(self) -> None:
        self._writer.close()


class Slow:
    """A service that handles one call at a time, and answers when it is let."""

    def __init__(self) -> None:
        self.entered, self.let, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.calls = 0
        self.deadline: float | None = None
        self.service = Service("slow", concurrency=1)
        self.service.endpoint(name="Call")(self._call)

    async def _call(self, context: Context) -> str:
        self.calls += 1
        self.deadline = context.remaining()
        self.entered.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"


class Site:
    """A gateway that listens.

    Attributes:
        bench: the platform behind it.
        gateway: the application.
        port: where it listens.
        http: a client of it.
    """

    eventually = staticmethod(eventually)

    def __init__(self, bench: Bench, gateway: Gateway, port: int, http: httpx.AsyncClient) -> None:
        self.bench = bench
        self.gateway = gateway
        self.port = port
        self.http = http
        self._lines: list[Line] = []

    async def line(self) -> Line:
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**24))
        self._lines.append(line)
        return line

    async def send(self, data: bytes) -> Answer:
        """Send bytes on a connection of their own and give the first answer."""
        line = await self.line()
        await line.send(data)
        return await line.answer()

    @contextlib.contextmanager
    def deaf(self, data: bytes) -> Iterator[socket.socket]:
        """Send bytes on a connection that nobody reads of."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", self.port))
            connection.sendall(data)
            yield connection

    async def settled(self, number: Callable[[], int]) -> int:
        """What a number that grows fast has come to once it grows no more."""
        before = -1
        async with asyncio.timeout(DEADLINE):
            while before < number():
                before = number()
                await asyncio.sleep(0.1)  # it grows by tens of megabytes meanwhile, or not at all
        return before

    def close(self) -> None:
        for line in self._lines:
            line.leave()


@contextlib.asynccontextmanager
async def open_site(bench: Bench, **settings: Any) -> AsyncIterator[Site]:
    """Let a gateway over a platform listen until the block ends."""
    serving = {name: settings.pop(name) for name in _SERVING if name in settings}
    platform = bench.platform
    wrap = settings.pop("wrap", lambda gateway: gateway)
    gateway = Gateway(platform.client, platform.table, **settings)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    http = httpx.AsyncClient(base_url=url, timeout=DEADLINE, verify=_NO_AUTHORITIES)
    site = Site(bench, gateway, port, http)
    async with http:
        try:
            async with serve(wrap(gateway), listening, websockets=True, **serving):
                yield site
        finally:
            site.close()
            await gateway.end_streams(0)


@pytest.fixture
def site(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Site]:
    """A gateway over a platform in memory."""
    opened = open_site(platform)
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


@pytest.fixture(name="open_site")
def opener() -> Callable[..., AbstractAsyncContextManager[Site]]:
    """For gateways with settings of their own: ``async with open_site(platform, drain=1)``."""
    return open_site


@pytest.fixture
def slow() -> Slow:
    return Slow()
