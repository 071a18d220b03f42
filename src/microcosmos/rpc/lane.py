"""The lane: calls between the processes of one host, over Unix sockets.

The server listens on one socket a process, for all its services. The client keeps one line to
each socket it needs, and many calls share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

from microcosmos.base import errors

from . import frames
from .interface import Call, Resolver, Unreachable
from .line import Line
from .pending import Pending
from .server import Server, check_size


@contextlib.asynccontextmanager
async def listen(path: Path, server: Server, *, drain: float = 10.0) -> AsyncIterator[None]:
    """Serve on a Unix socket that only this user may open, until the block ends.

    Leaving says GOAWAY on every line, waits up to ``drain`` seconds for the calls being handled,
    and closes.
    """
    path.unlink(missing_ok=True)
    lines: dict[Line, _Answers] = {}
    listener = await asyncio.get_running_loop().create_unix_server(
        lambda: _accept(server, lines), path
    )
    path.chmod(0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        listener.close()
        for line in lines:
            line.send(frames.GOAWAY, 0, b"")
        await server.drain(drain)
        await asyncio.sleep(0)
        for line in list(lines):
            line.close()


def _accept(server: Server, lines: dict[Line, _Answers]) -> Line:
    answers = _Answers(server)

    def lost(line: Line) -> None:
        lines.pop(line, None)
        answers.cancel_all()

    line = Line(answers.received, lost)
    lines[line] = answers
    return line


class _Answers:
    """The calls that came by one line and are being handled."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._create = asyncio.get_running_loop().create_task

    def received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.REQUEST:
            try:
                call = frames.decode_call(payload)
            except Exception as exc:  # noqa: BLE001 - any damage is the peer's, and is told to it
                line.send(frames.ERROR, stream, errors.BadRequest("rpc", str(exc)).to_wire())
                return
            self._tasks[stream] = self._create(self._answer(line, stream, call))
        elif kind == frames.CANCEL:
            line.forget(stream)
            if task := self._tasks.get(stream):
                task.cancel()

    async def _answer(self, line: Line, stream: int, call: Call) -> None:
        try:
            line.send(frames.REPLY, stream, await self._server.handle(call))
        except errors.Error as error:
            line.send(frames.ERROR, stream, error.to_wire())
        except asyncio.CancelledError:
            # The caller has gone or no longer waits: there is nobody to tell.
            pass
        finally:
            self._tasks.pop(stream, None)

    def cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()


class LaneTransport:
    """Calls to replicas on this host; see `interface.Transport`.

    Args:
        resolver: knows the sockets. Replicas take turns; a socket that does not open is left
            alone for a second.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._lines: dict[str, _Calls] = {}
        self._dead: dict[str, float] = {}
        self._turn = itertools.count()
        self._opening: dict[str, asyncio.Task[_Calls]] = {}

    def reaches(self, service: str) -> bool:
        """Whether a replica is on this host."""
        return bool(self._resolver.lanes(service))

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        check_size(call)
        paths = self._resolver.lanes(call.service)
        start = next(self._turn)
        for at in range(len(paths)):
            path = paths[(start + at) % len(paths)]
            calls = self._lines.get(path)
            if calls is None or not calls.usable:
                calls = await self._open(path)
            if calls is not None:
                return await calls.call(call)
        raise Unreachable(call.service)

    async def _open(self, path: str) -> _Calls | None:
        now = asyncio.get_running_loop().time()
        if self._dead.get(path, 0.0) > now:
            return None
        opening = self._opening.get(path)
        if opening is None:
            opening = self._opening[path] = asyncio.create_task(_connect(path))
            opening.add_done_callback(lambda _: self._opening.pop(path, None))
        try:
            calls = await asyncio.shield(opening)
        except OSError:
            self._dead[path] = now + 1.0
            return None
        self._dead.pop(path, None)
        self._lines[path] = calls
        return calls

    async def close(self) -> None:
        """Close every line; what waits on them fails with `ConnectionLost`."""
        for calls in self._lines.values():
            calls.close()
        self._lines.clear()


async def _connect(path: str) -> _Calls:
    calls = _Calls()
    loop = asyncio.get_running_loop()
    _, line = await loop.create_unix_connection(lambda: Line(calls.received, calls.lost), path)
    calls.line = line
    return calls


class _Calls:
    """One line to a server, and the calls on it."""

    line: Line

    def __init__(self) -> None:
        self._pending = Pending(self._abandon)
        self._leaving = False

    @property
    def usable(self) -> bool:
        return self.line.open and not self._leaving

    async def call(self, call: Call) -> bytes:
        number, future = self._pending.begin(call)
        self.line.send(frames.REQUEST, number, frames.encode_call(call))
        return await self._pending.wait(number, future)

    def received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.REPLY:
            self._pending.resolve(stream, payload)
        elif kind == frames.ERROR:
            self._pending.fail(stream, errors.from_wire(payload))
        elif kind == frames.GOAWAY:
            self._leaving = True

    def lost(self, line: Line) -> None:
        self._pending.fail_all("the line broke")
        self._pending.close()

    def close(self) -> None:
        self._leaving = True
        self.line.close()

    def _abandon(self, number: int) -> None:
        self.line.forget(number)
        if self.line.open:
            self.line.send(frames.CANCEL, number, b"")
