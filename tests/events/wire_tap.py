"""A tap on the wire to the engine, which loses what goes over it when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Tap:
    """Between clients and an engine.

    Attributes:
        url: where clients connect to.
        deaf: what clients send is lost.
        mute: what the engine sends is lost.
        stuck: what clients send is not read.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = ""
        self.deaf = self.mute = False
        self._read = asyncio.Event()
        self._read.set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def stuck(self) -> bool:
        return not self._read.is_set()

    @stuck.setter
    def stuck(self, stuck: bool) -> None:
        (self._read.clear if stuck else self._read.set)()

    def cut(self) -> None:
        """Break all connections; new ones work again."""
        self.deaf = self.mute = self.stuck = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, forth]
        await asyncio.gather(self._pump(reader, forth, "deaf"), self._pump(back, writer, "mute"))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if lost == "deaf":
                    await self._read.wait()
                if not getattr(self, lost):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def tapped(url: str) -> AsyncIterator[Tap]:
    """A tap on the way to an engine."""
    tap = Tap(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(tap.joined, "127.0.0.1", 0)
    tap.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tap
    finally:
        server.close()
        tap.cut()
