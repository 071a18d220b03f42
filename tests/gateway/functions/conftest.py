"""A gateway with functions, and a worker that answers as a test says, since nobody trusts one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.calling import Caller
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Live, News, Share
from microcosmos.functions.workers import Place, Suspicion, Verdict, Where
from microcosmos.gateway.functions.door import Functions
from microcosmos.rpc.frames import BEAT, CANCEL, END, ERROR, GRANT, ITEM, OPEN, REPLY, REQUEST
from microcosmos.rpc.line import Line
from microcosmos.testing import Bench


class Asked(NamedTuple):
    """A request as a worker has it."""

    method: str
    url: str
    params: str
    headers: list[tuple[str, str]]
    path: str
    body: bytes
    slot: int

    @property
    def names(self) -> dict[str, str]:
        return dict(self.headers)


class Said:
    """One request under way: what the worker says on its stream."""

    def __init__(self, line: Line, stream: int, asked: Asked) -> None:
        self._line, self._stream = line, stream
        self.asked = asked
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.credit = wire.WINDOW
        self.granted = asyncio.Event()
        self.cancelled = asyncio.Event()

    def reply(
        self, body: bytes = b"", kind: int = wire.TEXT, status: int = 200, headers: Any = None
    ) -> None:
        head = msgspec.json.encode(headers) if headers is not None else b""
        self.say(REPLY, wire.pack_reply(status, kind, head, body))

    def say(self, kind: int, payload: bytes = b"") -> None:
        self._line.send(kind, self._stream, payload)

    def fail(self, error: errors.Error) -> None:
        self.say(ERROR, error.to_wire())

    def take(self, size: int) -> None:
        self.say(GRANT, b"%d" % size)

    async def send(self, part: bytes) -> None:
        """Send a part of an answer, as soon as there is credit."""
        while self.credit <= 0:
            self.granted.clear()
            await self.granted.wait()
        self.credit -= len(part)
        self.say(ITEM, part)

    def end(self) -> None:
        self.say(END)

    def die(self) -> None:
        """The worker is gone, with all its lines."""
        self._line.abort()


Program = Callable[[Said], Awaitable[None] | None]


class Worker:
    """A worker on a socket, that runs one program for every slot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.program: Program = lambda said: said.reply(b"hello")
        self.seen: list[Asked] = []
        self.lines: list[Line] = []
        self._under_way: dict[tuple[int, int], Said] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> Line:
        line = Line(self._take, lambda line: self.lines.remove(line))
        self.lines.append(line)
        return line

    def _take(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        key = (id(line), stream)
        if kind in (REQUEST, OPEN):
            slot, head, body = wire.unpack_request(payload)
            method, url, params, headers, path = head.decode().split("\n", 4)
            pairs = wire.decode_headers(headers)
            asked = Asked(method, url, params, pairs, path, body, slot)
            self.seen.append(asked)
            said = self._under_way[key] = Said(line, stream, asked)
            if (coming := self.program(said)) is not None:
                self._tasks.add(task := asyncio.ensure_future(coming))
                task.add_done_callback(self._tasks.discard)
            return
        if kind == BEAT:
            line.send(BEAT, stream, b"")
            return
        said = self._under_way[key]
        if kind == ITEM:
            said.parts.put_nowait(payload)
        elif kind == END:
            said.parts.put_nowait(None)
        elif kind == GRANT:
            said.credit += int(payload)
            said.granted.set()
        elif kind == CANCEL:
            said.cancelled.set()

    def close(self) -> None:
        for line in [*self.lines]:
            line.abort()
        for task in self._tasks:
            task.cancel()


class Placing:
    """Says that everything runs in one worker, each version under its own slot."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.asked: list[Where] = []
        self.failure: errors.Error | None = None

    async def place(self, where: Where) -> list[Place]:
        self.asked.append(where)
        if self.failure is not None:
            raise self.failure
        return [Place(str(self._worker.path), len(self.asked), 1)]

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        return Verdict(False)


class Running:
    """A site with functions.

    Attributes:
        site: the gateway.
        worker: what runs all functions.
        placing: says so.
        known: the functions.
    """

    def __init__(self, site: Any, worker: Worker, placing: Placing, known: Known) -> None:
        self.site, self.worker, self.placing, self.known = site, worker, placing, known
        self.http = site.http

    def tell(self, *live: Live, gone: tuple[str, ...] = ()) -> None:
        """Some functions are new or have changed, and some are gone."""
        names = [("micro", name) for name in gone]
        self.known.apply(News(epoch="e", sequence=1, live=[*live], gone=names))


def live(name: str, *routes: str, number: int = 1, wall: float = 30.0) -> Live:
    share = Share(
        number=number, key=f"{name}-{number}", engine="quickjs", routes=[*routes], wall=wall
    )
    return Live(namespace="micro", name=name, owner="jane", shares=[share])


@pytest.fixture
def open_functions(
    platform: Bench, open_site: Any, tmp_path: Path
) -> Callable[..., contextlib.AbstractAsyncContextManager[Running]]:
    """For gateways with functions: ``async with open_functions(live("hello")) as running``."""

    @contextlib.asynccontextmanager
    async def opened(*functions: Live, **settings: Any) -> AsyncIterator[Running]:
        worker = Worker(tmp_path / "w.sock")
        placing = Placing(worker)
        known = Known(platform.platform.client)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(worker.accept, worker.path)
        async with Caller(placing) as caller:
            given = Functions(known, caller)
            async with open_site(platform, functions=given, **settings) as site:
                running = Running(site, worker, placing, known)
                running.tell(*functions)
                try:
                    yield running
                finally:
                    worker.close()
        server.close()

    return opened


@pytest.fixture(name="live")
def make_live() -> Callable[..., Live]:
    return live
