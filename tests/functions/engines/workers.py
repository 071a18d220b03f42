"""A worker of any engine as its users see it: a process, a socket, frames; and the host's end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Counts, Limits, Replay, Unit
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

TIMEOUT = 60.0
ORIGIN = "http://functions.test"

COMPILED = Path(tempfile.gettempdir()) / f"microcosmos-{os.getuid()}-wasm"
"""Where the guest of wasm workers is kept, compiled once for all runs."""

Command = Callable[[str], tuple[list[str], dict[str, str]]]
"""Given the path of a socket, what starts a worker on it: arguments and environment."""


def walled(path: str, argv: list[str], env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The same for Deno, within the walls that the zygote would start it in."""
    from microcosmos.functions.deno.command import SCRIPTS
    from microcosmos.functions.walls import run

    keep = (Path(path).parent,)
    return run.command(argv, keep=keep, read=(SCRIPTS,), profile="deno"), env


class Answer(msgspec.Struct, kw_only=True):
    """What came back: an answer of the function, or an error (`id` is then not empty)."""

    status: int
    kind: int = wire.TEXT
    headers: list[tuple[str, str]] = []
    body: bytes = b""
    id: str = ""
    detail: str = ""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        """The content type that a client sees."""
        said = self.header("content-type")
        return said or ("" if self.kind == wire.GIVEN else wire.CONTENT_TYPES[self.kind])

    def header(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key.lower() == name)


class Streaming:
    """An answer that has begun; its body comes in pieces, and is granted as it is taken."""

    def __init__(self, line: Line, stream: int) -> None:
        self._line, self._stream = line, stream
        self._pieces: asyncio.Queue[bytes | errors.Error | None] = asyncio.Queue()
        self.begun: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.granted = 0
        self.room = asyncio.Event()
        self.window = wire.WINDOW
        self.over = False

    def grant(self, size: int) -> None:
        """Let the worker send more."""
        self._line.send(frames.GRANT, self._stream, b"%d" % size)

    def cancel(self) -> None:
        self._line.send(frames.CANCEL, self._stream, b"")

    async def pieces(self, *, granting: bool = True) -> AsyncIterator[bytes]:
        """The rest of the body; raises the error that ends it too early."""
        while (piece := await asyncio.wait_for(self._pieces.get(), TIMEOUT)) is not None:
            if isinstance(piece, errors.Error):
                raise piece
            if granting:
                self.grant(len(piece))
            yield piece

    async def answer(self) -> Answer:
        """The whole answer, once it has come."""
        begun = await asyncio.wait_for(asyncio.shield(self.begun), TIMEOUT)
        if not begun.id and begun.kind & wire.STREAMED:
            begun.body = b"".join([piece async for piece in self.pieces()])
            begun.kind &= ~wire.STREAMED
        return begun

    def received(self, kind: int, payload: bytes) -> None:
        match kind:
            case frames.REPLY:
                status, body_kind, head, body = wire.unpack_reply(payload)
                headers = wire.decode_headers(head) if head else []
                if body_kind & wire.STREAMED and body:
                    self._pieces.put_nowait(body)
                self.over = not body_kind & wire.STREAMED
                self.begun.set_result(
                    Answer(status=status, kind=body_kind, headers=headers, body=body)
                )
            case frames.ERROR if not self.begun.done():
                error = errors.from_wire(payload)
                self.over = True
                self.begun.set_result(Answer(status=error.code, id=error.id, detail=error.detail))
            case frames.ERROR:
                self.over = True
                self._pieces.put_nowait(errors.from_wire(payload))
            case frames.ITEM:
                self._pieces.put_nowait(payload)
            case frames.END:
                self.over = True
                self._pieces.put_nowait(None)
            case frames.GRANT:
                self.window += int(payload)
                self.room.set()

    def lost(self) -> None:
        gone = errors.ConnectionLost("functions.lost", "the worker is gone")
        if not self.begun.done():
            self.begun.set_result(Answer(status=503, id=gone.id))
        self._pieces.put_nowait(gone)


Site = Answer | Callable[[wire.Fetch], Any]
"""What a URL answers: always the same, or what a function (async or not) says."""


class Process:
    """A worker's process, started when it is first needed and again when it has died."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._folder = Path(tempfile.mkdtemp(prefix="w"))
        self._count = itertools.count()
        self._running: subprocess.Popen[bytes] | None = None
        self.path = ""

    @property
    def pid(self) -> int:
        assert self._running
        return self._running.pid

    def start(self) -> None:
        """See that it runs and that its socket accepts."""
        if self._running and self._running.poll() is None:
            return
        self.path = str(self._folder / f"{next(self._count)}.sock")
        argv, env = self._command(self.path)
        self._running = subprocess.Popen(argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL)
        end = time.monotonic() + TIMEOUT
        while not self._accepts():
            assert self._running.poll() is None, f"{argv} ended with {self._running.returncode}"
            assert time.monotonic() < end, f"{argv} does not listen"
            time.sleep(0.005)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.path) == 0

    def signal(self, number: int) -> None:
        assert self._running
        self._running.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._running
        return self._running.wait(TIMEOUT)

    def stop(self) -> None:
        """Kill it and take its folder away."""
        if self._running:
            self._running.kill()
            self._running.wait(TIMEOUT)
            self._running = None
        shutil.rmtree(self._folder, ignore_errors=True)


class Worker:
    """The line to a worker, as host and gateway in one; a context manager.

    Attributes:
        sites: what `fetch` finds, by URL.
        bindings: what bindings answer, by ``(binding, verb)``; called with the arguments, a
            raised `errors.Error` is the function's.
        fetched: the sub-requests so far.
        used: the uses of bindings so far.
        notes: what it has told.
        leaving: whether it has said that it takes no more.
    """

    def __init__(self, process: Process, engine: str = "quickjs") -> None:
        self.process = process
        self.engine = engine
        self.sites: dict[str, Site] = {}
        self.bindings: dict[tuple[str, str], Callable[..., Any]] = {}
        self.fetched: list[wire.Fetch] = []
        self.fetched_bodies: dict[str, bytes] = {}
        self.used: list[wire.Use] = []
        self.notes: list[wire.Notes] = []
        self.cancelled: set[int] = set()
        self.leaving = False
        self.beats: list[bytes] = []

    async def __aenter__(self) -> Worker:
        self.process.start()
        loop = asyncio.get_running_loop()
        self._streams: dict[int, Streaming] = {}
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        _, self.line = await loop.create_unix_connection(
            lambda: Line(self._received, self._lost), self.process.path
        )
        self.found = msgspec.json.decode((await self.verb(wire.HOST)).body, type=list[wire.Loaded])
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self.line.open:
            self.line.abort()
        await asyncio.wait_for(self._gone.wait(), TIMEOUT)

    # What a test does.

    async def load(
        self,
        code: str,
        *,
        form: str = "handler",
        language: str = "javascript",
        name: str = "probe",
        key: str = "",
        env: Mapping[str, str] | None = None,
        grants: Iterable[str] = (),
        hosts: Iterable[str] = (),
        limits: Limits | None = None,
        replay: Replay | None = None,
    ) -> Function:
        """Load a function; raises `errors.Error` if the worker refuses it."""
        unit = Unit(
            namespace="micro",
            name=name,
            number=1,
            key=key or os.urandom(8).hex(),
            owner="tests",
            language=language,  # type: ignore[arg-type]
            form=form,  # type: ignore[arg-type]
            engine="quickjs" if self.engine == "wasm" else self.engine,  # type: ignore[arg-type]
            isolation="wasm" if self.engine == "wasm" else "isolate",
            main=f"{name}.py" if language == "python" else f"{name}.js",
            code=code,
            env=dict(env or {}),
            hosts=list(hosts),
            grants=list(grants),
            limits=limits or Limits(cpu=1.0),
            replay=replay,
        )
        answer = await self.verb(wire.LOAD, wire.encode(unit))
        if answer.id:
            raise errors.of_code(answer.status, answer.id, answer.detail)
        loaded = wire.decode_loaded(answer.body)
        assert loaded.key == unit.key
        return Function(self, loaded.slot)

    async def check(
        self, code: str, *, file: str = "probe.js", language: str = "javascript"
    ) -> wire.Checked:
        """What is wrong with a source."""
        source = wire.Source(file=file, code=code, language=language)
        answer = await self.verb(wire.CHECK, wire.encode(source))
        assert not answer.id, answer
        return msgspec.json.decode(answer.body, type=wire.Checked)

    async def drop(self, function: Function) -> None:
        """Let go of a function."""
        answer = await self.verb(wire.DROP, wire.encode(wire.Slot(slot=function.slot)))
        assert not answer.id, answer

    async def verb(self, word: str, body: bytes = b"null") -> Answer:
        """Say a verb to the worker itself."""
        stream = self.open(frames.REQUEST, wire.pack_request(0, word.encode(), body))
        return await stream.answer()

    async def until(self, true: Callable[[], Any]) -> Any:
        """Wait until something is true that a message from the worker makes true; returns it."""
        async with asyncio.timeout(TIMEOUT):
            while not (value := true()):
                self._changed.clear()
                await self._changed.wait()
        return value

    async def gone(self) -> None:
        """Wait until the line is lost."""
        await asyncio.wait_for(self._gone.wait(), TIMEOUT)

    def logged(self, slot: int) -> list[wire.Line]:
        """The lines of a function's log so far."""
        return [line for notes in self.notes for line in notes.lines if line.slot == slot]

    def counted(self, slot: int) -> Counts:
        """What a function has used, as told so far."""
        total = Counts()
        for notes in self.notes:
            if counts := notes.counts.get(slot):
                total.add(counts)
        return total

    def open(self, kind: int, payload: bytes) -> Streaming:
        """Begin a stream by its first frame."""
        number = next(self._numbers)
        stream = self._streams[number] = Streaming(self.line, number)
        self.line.send(kind, number, payload)
        return stream

    def number_of(self, stream: Streaming) -> int:
        return next(number for number, known in self._streams.items() if known is stream)

    def kill(self) -> None:
        self.process.signal(signal.SIGKILL)

    # The host's end.

    def _received(self, line: Line, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.GOAWAY:
            self.leaving = True
        elif kind == frames.BEAT:
            self.beats.append(payload)
        elif number < wire.ASKED:
            if stream := self._streams.get(number):
                stream.received(kind, payload)
        elif kind in (frames.REQUEST, frames.OPEN):
            asked = self._asked[number] = _Asked()
            task = asyncio.create_task(self._ask(number, kind, asked, payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif kind == frames.CANCEL:
            self.cancelled.add(number)
            if known := self._asked.get(number):
                known.room.set()
        elif known := self._asked.get(number):
            known.received(kind, payload)
        self._changed.set()

    def _lost(self, line: Line) -> None:
        for stream in self._streams.values():
            stream.lost()
        self._gone.set()
        self._changed.set()

    async def _ask(self, number: int, kind: int, asked: _Asked, payload: bytes) -> None:
        slot, head, body = wire.unpack_request(payload)
        try:
            match head.decode():
                case wire.NOTES:
                    notes = msgspec.json.decode(body, type=wire.Notes)
                    if all(known.sequence != notes.sequence for known in self.notes):
                        self.notes.append(notes)
                    self._reply(number, b"null")
                case wire.CALL:
                    use = msgspec.json.decode(body, type=wire.Use)
                    self.used.append(use)
                    self._reply(number, await self._use(use))
                case wire.FETCH:
                    await self._fetch(
                        number, kind, asked, msgspec.json.decode(body, type=wire.Fetch)
                    )
                case word:
                    raise errors.BadRequest("tests", f"the worker asks for {word!r} of {slot}")
        except errors.Error as error:
            self.line.send(frames.ERROR, number, error.to_wire())

    def _reply(self, number: int, body: bytes) -> None:
        self.line.send(frames.REPLY, number, wire.pack_reply(200, wire.JSON, b"", body))

    async def _use(self, use: wire.Use) -> bytes:
        known = self.bindings.get((use.binding, use.verb))
        if known is None:
            raise errors.NotFound("tests", f"no {use.binding} {use.verb} here")
        result = known(*use.arguments)
        return msgspec.json.encode(await result if inspect.isawaitable(result) else result)

    async def _fetch(self, number: int, kind: int, asked: _Asked, fetch: wire.Fetch) -> None:
        self.fetched.append(fetch)
        if kind == frames.OPEN or fetch.streamed:
            pieces = []
            while (piece := await asked.pieces.get()) is not None:
                pieces.append(piece)
                self.line.send(frames.GRANT, number, b"%d" % len(piece))
            self.fetched_bodies[fetch.url] = b"".join(pieces)
        site = self.sites.get(fetch.url)
        if site is None:
            raise errors.BadGateway("functions.fetch", f"there is no {fetch.url}")
        answer = site(fetch) if callable(site) else site
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, tuple):
            await self._stream(number, asked, *answer)
            return
        head = msgspec.json.encode(answer.headers) if answer.headers else b""
        kind_of_body = answer.kind if not answer.header("content-type") else wire.GIVEN
        payload = wire.pack_reply(answer.status, kind_of_body, head, answer.body)
        self.line.send(frames.REPLY, number, payload)

    async def _stream(
        self, number: int, asked: _Asked, answer: Answer, pieces: AsyncIterable[bytes]
    ) -> None:
        """A site that answers ``(answer, pieces)`` streams."""
        head = msgspec.json.encode(answer.headers) if answer.headers else b""
        kind = wire.GIVEN | wire.STREAMED
        self.line.send(frames.REPLY, number, wire.pack_reply(answer.status, kind, head))
        async for piece in pieces:
            while asked.window <= 0 and number not in self.cancelled:
                asked.room.clear()
                await asked.room.wait()
            if number in self.cancelled:
                return
            asked.window -= len(piece)
            self.line.send(frames.ITEM, number, piece)
        self.line.send(frames.END, number, b"")


class _Asked:
    """Something the worker has asked for: the body it sends, and what it may be sent."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.window = wire.WINDOW
        self.room = asyncio.Event()

    def received(self, kind: int, payload: bytes) -> None:
        if kind == frames.ITEM:
            self.pieces.put_nowait(payload)
        elif kind == frames.END:
            self.pieces.put_nowait(None)
        elif kind == frames.GRANT:
            self.window += int(payload)
            self.room.set()


class Function:
    """A loaded function, and how it is run."""

    def __init__(self, worker: Worker, slot: int) -> None:
        self.worker = worker
        self.slot = slot

    async def get(self, path: str = "", **more: Any) -> Answer:
        """Its answer to a GET; the path is that below its family, query string included."""
        return await self.request("GET", path, **more)

    async def post(self, path: str = "", body: bytes | str = b"", **more: Any) -> Answer:
        return await self.request("POST", path, body=body, **more)

    async def request(self, method: str, path: str = "", **more: Any) -> Answer:
        """Its whole answer; for the rest of the arguments see `begin`."""
        return await self.begin(method, path, **more).answer()

    def begin(
        self,
        method: str = "GET",
        path: str = "",
        *,
        body: bytes | str = b"",
        headers: Iterable[tuple[str, str]] = (),
        params: Mapping[str, str] | None = None,
        url: str = "",
    ) -> Streaming:
        """Send a request; the answer may be looked at as it comes."""
        head = self._head(method, path, headers, params, url)
        whole = body.encode() if isinstance(body, str) else body
        return self.worker.open(frames.REQUEST, wire.pack_request(self.slot, head, whole))

    def open(self, method: str = "POST", path: str = "", **more: Any) -> Upload:
        """Begin a request whose body follows."""
        head = self._head(
            method, path, more.get("headers", ()), more.get("params"), more.get("url", "")
        )
        stream = self.worker.open(frames.OPEN, wire.pack_request(self.slot, head))
        return Upload(self.worker.line, self.worker.number_of(stream), stream)

    async def event(self, handler: str, event: Any) -> Answer:
        """Have it handle an event: ``null``, or an error."""
        said = wire.Event(
            slot=self.slot, handler=handler, event=msgspec.Raw(json.dumps(event).encode())
        )
        return await self.worker.verb(wire.EVENT, wire.encode(said))

    async def logs(self, lines: int = 1) -> list[wire.Line]:
        """Its log, once it has so many lines."""
        known = lambda: self.worker.logged(self.slot)  # noqa: E731
        await self.worker.until(lambda: len(known()) >= lines)
        return known()

    async def counts(self, requests: int) -> Counts:
        """What it has used, once so many requests are counted."""
        known = lambda: self.worker.counted(self.slot)  # noqa: E731
        await self.worker.until(lambda: known().requests >= requests)
        return known()

    @staticmethod
    def _head(
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        params: Mapping[str, str] | None,
        url: str,
    ) -> bytes:
        said = json.dumps([list(pair) for pair in headers], separators=(",", ":"))
        route = json.dumps(params, separators=(",", ":")) if params else ""
        below = path.partition("?")[0]
        lines = (method, url or f"{ORIGIN}/probe/{path}", route, said, below)
        return "\n".join(lines).encode("utf-8", "surrogatepass")


class Upload:
    """A request whose body is being sent, within the window that the worker grants."""

    def __init__(self, line: Line, number: int, stream: Streaming) -> None:
        self._line, self._number, self.stream = line, number, stream

    async def send(self, piece: bytes) -> None:
        while self.stream.window <= 0 and not self.stream.over:
            self.stream.room.clear()
            await asyncio.wait_for(self.stream.room.wait(), TIMEOUT)
        self.stream.window -= len(piece)
        self._line.send(frames.ITEM, self._number, piece)

    def end(self) -> None:
        self._line.send(frames.END, self._number, b"")

    async def answer(self) -> Answer:
        return await self.stream.answer()


@contextlib.contextmanager
def running(command: Command) -> Iterable[Process]:  # type: ignore[misc]
    """A worker's process of its own, for a test that ends it."""
    process = Process(command)
    try:
        yield process
    finally:
        process.stop()
