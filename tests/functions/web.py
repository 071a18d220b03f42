"""HTTP servers on loopback that functions fetch from."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events


class Seen:
    """A request as it came.

    Attributes:
        method: as it was sent.
        target: path and query.
        headers: names in small letters.
        body: whole.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


class Web:
    """A server of HTTP/1.1.

    Attributes:
        port: where.
        seen: the requests so far.
        connections: how many were taken.
        closed: set when a client has gone.
    """

    def __init__(self, answer: Answer) -> None:
        self.port = 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self._answer = answer

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while seen := await _request(reader):
                self.seen.append(seen)
                await self._answer(seen, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(": ") for line in lines if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = b""
    if size := int(headers.get("content-length", "0")):
        body = await reader.readexactly(size)
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return Seen(method, target, headers, body)


def said(body: bytes, status: str = "200 OK", **headers: str) -> Answer:
    """Answers everything alike."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        about = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        content = b"" if seen.method == "HEAD" else body
        head = f"HTTP/1.1 {status}\r\n{about}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + content)

    return answer


@contextlib.asynccontextmanager
async def web(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    """A server until the block ends."""
    made = Web(answer)
    server = await asyncio.start_server(
        made.serve, "127.0.0.1", 0, ssl=tls, limit=1024 * 1024, backlog=4096
    )
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


class Web2(asyncio.Protocol):
    """A server of HTTP/2 that tells each request its path."""

    connections = 0

    def __init__(self) -> None:
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        type(self).connections += 1
        self._transport = transport
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = {name.decode(): value.decode() for name, value in event.headers}
                told = [(":status", "200"), ("x-host", headers[":authority"])]
                self._h2.send_headers(event.stream_id, told)
                self._h2.send_data(event.stream_id, headers[":path"].encode(), end_stream=True)
        self._transport.write(self._h2.data_to_send())
