"""Lines to function workers, the end of whoever sends requests: a gateway, or the host.

One line leads to each worker, and many requests share it. One timer looks after all of them: it
ends what is late, and sees which worker does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from microcosmos.base import errors
from microcosmos.base.tasks import apart
from microcosmos.rpc.frames import (
    BEAT,
    CANCEL,
    END,
    ERROR,
    GOAWAY,
    GRANT,
    ITEM,
    OPEN,
    REPLY,
    REQUEST,
)
from microcosmos.rpc.line import Line

from .bodies import Inflow, Outflow
from .failing import counted
from .owing import (
    LOST,
    UNLOADED,
    Lost,
    Parts,
    Streamed,
    Suspect,
    Unloaded,
    Waiting,
    asked,
    end,
    fail,
    late,
    lost,
    owed,
)
from .watch import Watch
from .wire import ASKED, REPLY_HEAD, REQUEST_HEAD, STREAMED, unpack_reply
from .workers import Suspicion, Verdict

__all__ = [
    "LOST",
    "UNLOADED",
    "Lines",
    "Lost",
    "Streamed",
    "Suspect",
    "Unloaded",
    "WorkerLine",
    "late",
    "lost",
]

TICK = 0.01
"""Seconds between two looks at workers that owe answers."""

_LATE_EVERY = 3
"""Of so many looks one is for what is late: there may be many requests, and few are."""

DEAD_FOR = 1.0
"""Seconds for which a worker that hung up is not called again: it is dying, and may still take
a line, though it will never read what comes by it."""

_LAST = ASKED - 1

AskedFrame = Callable[[int, int, bytes], None]
"""Takes the kind, stream and payload of what a worker asks."""


class WorkerLine(Line):
    """A line to a worker.

    Attributes:
        socket: of the worker.
        pid: of the worker.
        usable: False once the worker has said GOAWAY or the line is lost.
        heard: whether anything has come since the last look.
        asked: takes what the worker asks; without it that is refused.
        ended: done when the line is gone.
        given_up: whether it was this end that hung up.

    Args:
        lines: looks after it.
        socket: of the worker.
        pid: of the worker.
    """

    def __init__(self, lines: Lines, socket: str, pid: int) -> None:
        super().__init__(self._take, self._gone)
        self.socket = socket
        self.pid = pid
        self.usable = True
        self.heard = False
        self.given_up = False
        self.asked: AskedFrame | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._lines = lines
        self._number = 0
        self._waiting: Waiting = {}
        self._parts: dict[int, Parts] = {}
        self._beats: list[asyncio.Future[None]] = []
        self._watch = Watch(pid)
        self._verdict: asyncio.Task[Verdict] | None = None
        self._new_future = self._loop.create_future

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._waiting or self._parts)

    def request(
        self, slot: int, head: bytes, body: bytes, due: float, key: str = ""
    ) -> tuple[int, asyncio.Future[bytes]]:
        """Send a request.

        Args:
            slot: whose.
            head: of the request.
            body: of the request, whole.
            due: when it is given up, by `Lines.now`.
            key: of what answers.

        Returns:
            Its number, and where the payload of its answer will be; or an `errors.Error`: of the
            worker, `Lost`, `Unloaded`, or the 503 of a request that is late.
        """
        number, future = self._begin(due, key)
        self.send(REQUEST, number, REQUEST_HEAD.pack(slot, len(head)) + head + body)
        return number, future

    def begin(
        self, slot: int, head: bytes, due: float, key: str = ""
    ) -> tuple[int, asyncio.Future[bytes], Outflow, Parts]:
        """Begin a request whose body follows; see `request`."""
        number, future = self._begin(due, key)
        outflow = Outflow(lambda kind, payload: self.send(kind, number, payload))
        parts = self._parts[number] = Parts(outflow)
        self.send(OPEN, number, REQUEST_HEAD.pack(slot, len(head)) + head)
        return number, future, outflow, parts

    async def ask(self, verb: str, body: bytes, timeout: float, key: str = "") -> bytes:
        """Use a verb of the worker itself; gives the JSON of its answer.

        Args:
            verb: of `wire`.
            body: its JSON.
            timeout: seconds to wait.
            key: of the version that it makes run.

        Raises:
            errors.Error: as of `request`.
        """
        number, future = self.request(0, verb.encode(), body, self._loop.time() + timeout, key)
        try:
            return unpack_reply(await future)[3]
        except asyncio.CancelledError:
            self.abandon(number)
            raise

    def beat(self) -> asyncio.Future[None]:
        """Ask for a sign of life; done when one has come, or the line is lost."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self.living:
            self._beats.append(future)
            self.send(BEAT, 0, b"")
        else:
            future.set_result(None)
        return future

    def close(self) -> None:
        """Close once what is queued has left."""
        self.given_up = True
        super().close()

    def abort(self) -> None:
        """Close at once."""
        self.given_up = True
        super().abort()

    def retire(self) -> None:
        """Ask the worker, as its host, to say goodbye and to end."""
        if self.living:
            self.send(GOAWAY, 0, b"")

    def abandon(self, number: int) -> None:
        """Nobody wants the answer to a request, or the rest of it."""
        known = self._waiting.pop(number, None)
        parts = self._parts.pop(number, None)
        if known is None and parts is None:
            return
        if parts is not None:
            parts.end(errors.ClientClosed("functions", "the request was given up"))
        self.forget(number)
        self.drop(number)
        if self.living:
            self.send(CANCEL, number, b"")
        self._leave()

    def look(self, now: float) -> None:
        """See whether the worker lives."""
        if self.heard:
            self.heard = False
            self._watch.heard()
        elif self._verdict is None and self._watch.silent(now):
            if not self._watch.asked:
                self._watch.ask(now)
                self.send(BEAT, 0, b"")
            elif (burned := self._watch.suspicious(now)) is not None:
                self._suspect(burned)

    def end_late(self, now: float) -> None:
        """Give up what is late."""
        for number in [number for number, (_, due, _) in self._waiting.items() if due <= now]:
            future = self._waiting[number][0]
            self.abandon(number)
            fail(future, late())

    @property
    def living(self) -> bool:
        """Whether anything that is sent may still arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def _begin(self, due: float, key: str) -> tuple[int, asyncio.Future[bytes]]:
        if self._lines.idle:
            self._lines.wake()
        number = self._number = self._number % _LAST + 1
        while self._parts and number in self._parts:
            # A body may last longer than all the other numbers.
            number = self._number = self._number % _LAST + 1
        future = self._new_future()
        self._waiting[number] = (future, due, key)
        return number, future

    # What comes.

    def _take(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        self.heard = True
        if stream >= ASKED:
            if self.asked is not None:
                self.asked(kind, stream, payload)
            elif kind in (REQUEST, OPEN):
                self.send(ERROR, stream, _no_host().to_wire())
        elif kind == REPLY:
            self._reply(stream, payload)
        elif kind == ERROR:
            self._refused(stream, errors.from_wire(payload))
        elif kind == BEAT:
            self._lives()
        elif kind == GOAWAY:
            self.usable = False
            self._leave()
        elif (parts := self._parts.get(stream)) is not None:
            self._part(stream, parts, kind, payload)

    def _reply(self, stream: int, payload: bytes) -> None:
        known = self._waiting.pop(stream, None)
        if known is None:
            return
        future = known[0]
        if len(payload) < REPLY_HEAD.size:
            self.abort()
            fail(future, Lost(LOST, "its worker does not keep to the protocol"))
            return
        if payload[2] & STREAMED:
            payload = self._streamed(stream, payload)
        elif self._parts and (parts := self._parts.pop(stream, None)) is not None:
            parts.accepted()
            parts.end()
        if not future.done():
            future.set_result(payload)
        if not self.usable:
            self._leave()

    def _streamed(self, stream: int, payload: bytes) -> Streamed:
        """An answer whose body follows."""
        parts = self._parts.setdefault(stream, Parts())
        parts.accepted()
        parts.inflow = Inflow(
            lambda kind, said: self.send(kind, stream, said), lambda: self.abandon(stream)
        )
        answer = Streamed(payload)
        answer.body = parts.inflow
        return answer

    def _refused(self, stream: int, error: errors.Error) -> None:
        """An error came, instead of an answer or of the rest of one."""
        known = self._waiting.pop(stream, None)
        parts = self._parts.pop(stream, None)
        if known is not None:
            unloaded = error.id == UNLOADED
            fail(known[0], Unloaded(error.id, error.detail) if unloaded else counted(error))
        if parts is not None:
            parts.end(error)
        self._leave()

    def _part(self, stream: int, parts: Parts, kind: int, payload: bytes) -> None:
        if kind == GRANT and parts.outflow is not None:
            parts.accepted()
            parts.outflow.grant(payload)
        elif parts.inflow is None:
            return
        elif kind == ITEM and not parts.inflow.take(payload):
            parts.inflow.end(errors.BadGateway(LOST, "its worker sent more than was asked for"))
        elif kind == END:
            del self._parts[stream]
            parts.end()
            self._leave()

    def _leave(self) -> None:
        """Close the line to a worker that has said goodbye, once nothing is owed.

        The host's own is closed by the worker, which has its last counts to tell.
        """
        if not self.usable and not self.busy and self.asked is None and self.living:
            self.close()

    # How it ends.

    def _lives(self) -> None:
        beats, self._beats = self._beats, []
        for future in beats:
            if not future.done():
                future.set_result(None)

    def _suspect(self, burned: float) -> None:
        if self._lines.suspect is None:
            self._watch.heard()
            return
        suspicion = Suspicion(self.pid, burned, owed(self._waiting), self._watch.first)
        self._verdict = apart(self._judged(self._lines.suspect, suspicion), "suspect")

    async def _judged(self, suspect: Suspect, suspicion: Suspicion) -> Verdict:
        verdict = await asked(suspect, suspicion)
        if not verdict.ended and self.open:
            self._verdict = None
            self._watch.heard()
        return verdict

    def _gone(self, line: Line) -> None:
        self.usable = False
        self._lines.lost(self)
        self._lives()
        if not self.ended.done():
            self.ended.set_result(None)
        waiting, self._waiting = self._waiting, {}
        parts, self._parts = self._parts, {}
        # Answers that have begun are cut off; whose fault that was is not waited for.
        for number in [number for number in parts if number not in waiting]:
            parts.pop(number).end(lost())
        suspect, answers = self._lines.suspect, owed(waiting)
        if not answers or self.given_up or suspect is None:
            end(waiting, parts, Verdict(True))
            return
        inquest = apart(self._inquest(suspect, answers), "inquest")
        inquest.add_done_callback(lambda task: end(waiting, parts, _result(task)))

    async def _inquest(self, suspect: Suspect, answers: dict[str, int]) -> Verdict:
        """Why the worker is no more, as its host knows it."""
        if self._verdict is not None and (verdict := await self._verdict).ended:
            return verdict
        return await asked(suspect, Suspicion(self.pid, owed=answers, lost=True))


class Lines:
    """Lines to workers, each opened when it is first needed.

    Attributes:
        now: the time of the loop, as of the last look.
        idle: whether nothing is under way, and so nobody looks.
        suspect: is told of workers that do not answer.
    """

    def __init__(self, suspect: Suspect | None = None) -> None:
        self.suspect = suspect
        self.idle = True
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        self._open: dict[str, WorkerLine] = {}
        self._opening: dict[str, asyncio.Task[WorkerLine]] = {}
        self._dead: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0

    async def __aenter__(self) -> Lines:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opening in self._opening.values():
            opening.cancel()
        for line in list(self._open.values()):
            line.abort()
        if self._timer is not None:
            self._timer.cancel()
        # The lines are told in the loop's next turn.
        await asyncio.sleep(0)

    def get(self, socket: str) -> WorkerLine | None:
        """The line to a socket, if one is open and usable."""
        line = self._open.get(socket)
        return line if line is not None and line.usable else None

    async def line(self, socket: str, pid: int) -> WorkerLine:
        """The line to a worker.

        Raises:
            Lost: it does not open.
        """
        if (line := self.get(socket)) is not None:
            return line
        if self._dead and self._dead.get(socket, 0.0) > self._loop.time():
            raise lost()
        opening = self._opening.get(socket)
        if opening is None:
            # What comes on the line later is for others than who has it opened.
            opening = self._opening[socket] = apart(self._connect(socket, pid), "connect")
            opening.add_done_callback(lambda _: self._opening.pop(socket, None))
        return await asyncio.shield(opening)

    async def _connect(self, socket: str, pid: int) -> WorkerLine:
        line = WorkerLine(self, socket, pid)
        try:
            await self._loop.create_unix_connection(lambda: line, socket)
        except OSError:
            raise lost() from None
        if line.usable:
            self._open[socket] = line
        return line

    def lost(self, line: WorkerLine) -> None:
        """A line has gone."""
        if self._open.get(line.socket) is line:
            del self._open[line.socket]
        if not line.given_up:
            now = self._loop.time()
            self._dead = {socket: until for socket, until in self._dead.items() if until > now}
            self._dead[line.socket] = now + DEAD_FOR

    def wake(self) -> None:
        """Look from now on, until nothing is under way."""
        if self.idle:
            self.idle = False
            self.now = self._loop.time()
            self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self._ticks += 1
        for_late = self._ticks % _LATE_EVERY == 0
        busy = False
        for line in list(self._open.values()):
            if line.busy:
                busy = True
                line.look(now)
                if for_late:
                    line.end_late(now)
        self.idle = not busy
        self._timer = self._loop.call_later(TICK, self._tick) if busy else None


def _result(task: asyncio.Task[Verdict]) -> Verdict:
    return Verdict(False) if task.cancelled() or task.exception() is not None else task.result()


def _no_host() -> errors.Error:
    return errors.Unavailable("functions", "nobody here answers a worker; ask its host")
