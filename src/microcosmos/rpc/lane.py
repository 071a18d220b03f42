"""The lane: calls between the processes of one host, over Unix sockets.

The server listens on one socket a process, for all its services. The client keeps one line to
each socket it needs, and many calls share it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from microcosmos.base import errors

from . import frames
from .interface import MAX_BODY, Call, Gone, Resolver, Stream, Unreachable, check_size, too_large
from .line import Line
from .pending import Pending
from .server import Server
from .stream import Channel, Pulse, answer
from .streams import Streams

_LATER = 1.0
"""Seconds for which a socket that does not open is left alone."""

_SOON = 0.02
"""The same for the core of this host."""

_ATTEMPTS = 2
"""How often a socket is tried that opens and is lost before anything was sent."""

_PATIENCE = 1.0
"""Seconds that callers have to close their lines to a server that leaves."""

_TURNS = 3
"""Turns of the loop in which whoever has connected gets a line: asyncio forgets those whose turn
comes once the listener is closed, and leaves their connections open."""


@contextlib.asynccontextmanager
async def listen(path: Path, server: Server, *, drain: float = 10.0) -> AsyncIterator[None]:
    """Serve on a Unix socket that only this user may open, until the block ends.

    Leaving says GOAWAY on every line, waits up to ``drain`` seconds for the calls being handled,
    and closes.
    """
    path.unlink(missing_ok=True)
    lines = _Lines(server)
    listener = await asyncio.get_running_loop().create_unix_server(lines.accept, path)
    path.chmod(0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        listener.close()
        await lines.leave(drain)


class _Lines:
    """The lines that a server has accepted."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pulse = Pulse()
        self._open: dict[Line, _Answers] = {}
        self._none = asyncio.Event()
        self._none.set()

    def accept(self) -> Line:
        answers = _Answers(self._server, self._pulse)
        line = Line(answers.received, self._lost)
        self._open[line] = answers
        self._none.clear()
        return line

    def _lost(self, line: Line) -> None:
        self._open.pop(line).cancel_all()
        if not self._open:
            self._none.set()

    async def leave(self, drain: float) -> None:
        try:
            await self._leave(drain)
        finally:
            self._pulse.close()

    async def _leave(self, drain: float) -> None:
        for line in self._open:
            line.send(frames.GOAWAY, 0, b"")
        # A caller that hears GOAWAY closes its line when it has its answers; calls that were on
        # their way are answered until then.
        if await self._server.drain(drain):
            await self._gone()
        for line in list(self._open):
            line.close()
        await self._gone()
        for line in list(self._open):
            line.abort()
        await self._gone()

    async def _gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), _PATIENCE)


class _Answers:
    """The calls that came by one line and are being handled."""

    def __init__(self, server: Server, pulse: Pulse) -> None:
        self._server = server
        self._pulse = pulse
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._channels: dict[int, Channel] = {}
        self._create = asyncio.get_running_loop().create_task

    def received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.REQUEST or kind == frames.OPEN:
            try:
                call = frames.decode_call(payload)
            except Exception as exc:  # noqa: BLE001 - any damage is the peer's, and is told to it
                line.send(frames.ERROR, stream, errors.BadRequest("rpc", str(exc)).to_wire())
                return
            if kind == frames.REQUEST:
                self._tasks[stream] = self._create(self._answer(line, stream, call))
            else:
                self._open(line, stream, call)
        elif kind == frames.CANCEL:
            line.forget(stream)
            line.drop(stream)
            if channel := self._channels.get(stream):
                channel.received(kind, payload)
            elif task := self._tasks.get(stream):
                task.cancel()
        elif channel := self._channels.get(stream):
            channel.received(kind, payload)

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

    def _open(self, line: Line, stream: int, call: Call) -> None:
        async def say(kind: int, payload: bytes) -> None:
            line.send(kind, stream, payload)

        # Here, not in the task: the stream's first messages may have come with its opening.
        channel = Channel(call, say, serving=True, done=lambda: stop())
        self._channels[stream] = channel
        self._pulse.add(channel)
        task = self._tasks[stream] = self._create(answer(self._server, call, channel))
        task.add_done_callback(lambda _: self._closed(stream, channel))
        stop = task.cancel

    def _closed(self, stream: int, channel: Channel) -> None:
        self._pulse.discard(channel)
        del self._channels[stream], self._tasks[stream]

    def cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()


class _Shut(NamedTuple):
    """A socket that did not open.

    Attributes:
        until: when it is tried again.
        refused: nobody listens there any more: its process has died without leaving.
    """

    until: float
    refused: bool


class LaneTransport:
    """Calls to replicas on this host; see `interface.Transport`.

    Args:
        resolver: knows the sockets. Replicas take turns; a socket that does not open is left
            alone for a second.
        here: services whose streams come from this host alone, as those of its core do: by any
            other way it would take long to see that it has died.
    """

    def __init__(self, resolver: Resolver, here: Iterable[str] = ()) -> None:
        self._resolver = resolver
        self._here = frozenset(here)
        self._lines: dict[str, _Calls] = {}
        self._shut: dict[str, _Shut] = {}
        self._turns: dict[str, int] = {}
        self._opening: dict[str, asyncio.Task[_Calls | None]] = {}
        self._pulse = Pulse()

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        paths = self._paths(call.service)
        calls = self._lines.get(paths[0])
        if calls is None or not calls.usable:
            calls = await self._line(call.service, paths)
        return await calls.call(call)

    async def open(self, call: Call) -> Stream:
        """Open a stream; see `interface.Transport`."""
        try:
            return (await self._line(call.service, self._paths(call.service))).open(call)
        except Unreachable:
            if call.service not in self._here:
                raise
        detail = f"{call.service} is not reached on this host; try again later"
        raise errors.Unavailable(call.service, detail)

    def _paths(self, service: str) -> list[str]:
        """The sockets of a service, the one whose turn it is first."""
        paths = self._resolver.lanes(service)
        if not paths:
            raise self._unreachable(service, paths)
        if len(paths) == 1:
            return paths
        # Each service counts its own turns: two that are called in turn would else each meet the
        # same one of two replicas every time.
        turn = self._turns.get(service, 0) % len(paths)
        self._turns[service] = turn + 1
        return paths[turn:] + paths[:turn]

    async def _line(self, service: str, paths: list[str]) -> _Calls:
        """A line to the first of these that can be reached."""
        for path in paths:
            calls = self._lines.get(path)
            if calls is None or not calls.usable:
                calls = await self._open(path)
            if calls is not None:
                return calls
        raise self._unreachable(service, paths)

    def _unreachable(self, service: str, paths: list[str]) -> Unreachable:
        if self._resolver.elsewhere(service):
            return Unreachable(service)
        shut = [self._shut.get(path) for path in paths]
        return Gone(service) if all(one and one.refused for one in shut) else Unreachable(service)

    def _own(self) -> set[str]:
        """The sockets of this host's core, which is missed by everyone until it is back."""
        return {path for service in self._here for path in self._resolver.lanes(service)}

    async def _open(self, path: str) -> _Calls | None:
        """A line to a socket, if it opens."""
        for _ in range(_ATTEMPTS):
            shut = self._shut.get(path)
            if shut is not None and shut.until > asyncio.get_running_loop().time():
                return None
            opening = self._opening.get(path)
            if opening is None:
                opening = self._opening[path] = asyncio.create_task(self._connect(path))
            calls = await asyncio.shield(opening)
            # A process that is dying may still take a line, and it is lost before anybody has
            # come to use it. What has become of the process the next attempt tells.
            if calls is None or calls.usable:
                return calls
        return None

    async def _connect(self, path: str) -> _Calls | None:
        loop = asyncio.get_running_loop()
        calls = _Calls(lambda: self._lost(path, calls), self._pulse)
        # Before it is open: the first that comes may be that it is to be closed.
        calls.line = Line(calls.received, calls.lost)
        try:
            await loop.create_unix_connection(lambda: calls.line, path)
        except OSError as exc:
            now = loop.time()
            self._shut = {known: shut for known, shut in self._shut.items() if shut.until > now}
            until = now + (_SOON if path in self._own() else _LATER)
            self._shut[path] = _Shut(until, isinstance(exc, ConnectionRefusedError))
            return None
        finally:
            del self._opening[path]
        self._shut.pop(path, None)
        if calls.usable:
            self._lines[path] = calls
        return calls

    def _lost(self, path: str, calls: _Calls) -> None:
        if self._lines.get(path) is calls:
            del self._lines[path]

    async def close(self) -> None:
        """Close every line; what waits on them fails with `ConnectionLost`."""
        for opening in self._opening.values():
            opening.cancel()
        for calls in list(self._lines.values()):
            calls.line.abort()
        self._pulse.close()
        # The loop tells the lines that they are lost in its next turn.
        await asyncio.sleep(0)


class _Calls:
    """One line to a server, and the calls on it.

    Attributes:
        line: the line.
        usable: False once the server has said GOAWAY or the line is lost.

    Args:
        gone: called when the line is lost.
        pulse: beats for the streams.
    """

    line: Line

    def __init__(self, gone: Callable[[], None], pulse: Pulse) -> None:
        self._pending = Pending(self._abandon)
        self._streams = Streams(pulse)
        self._gone = gone
        self.usable = True

    def call(self, call: Call) -> Coroutine[Any, Any, bytes]:
        request = _encoded(call)
        number, future = self._pending.begin(call)
        self.line.send(frames.REQUEST, number, request)
        return self._pending.wait(number, future)

    def open(self, call: Call) -> Channel:
        request = _encoded(call)
        number = self._pending.number()

        async def say(kind: int, payload: bytes) -> None:
            if kind == frames.CANCEL:
                self._stop(number)
            else:
                self.line.send(kind, number, payload)

        channel = self._streams.begin(number, call, say)
        self.line.send(frames.OPEN, number, request)
        return channel

    def received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.REPLY:
            self._pending.resolve(stream, payload)
        elif kind == frames.GOAWAY:
            self.usable = False
            self._leave()
        elif opened := self._streams.get(stream):
            opened[1].received(kind, payload)
        elif kind == frames.ERROR:
            self._pending.fail(stream, errors.from_wire(payload))

    def _leave(self) -> None:
        """Close the line once what is on it has ended."""
        self._streams.when_ended(lambda: self._pending.when_ended(self.line.close))

    def lost(self, line: Line) -> None:
        self.usable = False
        self._gone()
        self._pending.fail_all("the line broke")
        self._pending.close()
        self._streams.fail_all("the line broke")
        self._streams.close()

    def _abandon(self, number: int, call: Call) -> None:
        self._stop(number)

    def _stop(self, number: int) -> None:
        """Nobody here wants any more of what this number stands for."""
        self.line.forget(number)
        self.line.drop(number)
        if self.line.open:
            self.line.send(frames.CANCEL, number, b"")


def _encoded(call: Call) -> bytes:
    """A call as a message of the lane, if it is not too large for one."""
    request = frames.encode_call(call)
    if len(request) > MAX_BODY:
        check_size(call)
        if len(request) > frames.MAX_MESSAGE:
            raise too_large(call, "request with its metadata", len(request), frames.MAX_MESSAGE)
    return request
