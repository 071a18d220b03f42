"""One loaded function: its realm, and all that is under way in it."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from microcosmos.base import errors
from microcosmos.functions.interface import Unit
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from . import answers, crossing, failures
from .asking import Asking
from .host import Host, Meter, Notes
from .limits import LINGER
from .realm import Failure, Realm, Spares
from .run import Run

_SCRIPT_LINES = 2
"""Lines that the engine counts before those of a script."""

_FATAL = ("functions.limit.memory",)
"""What a realm is not used any more after, though it could say so itself."""

_now = time.perf_counter_ns


class Around(Protocol):
    """What a program has around it.

    Attributes:
        host: does what functions may not do themselves.
        notes: is told what they use.
        spares: gives realms.
        streams: the runs that frames may still come for.
    """

    host: Host
    notes: Notes
    spares: Spares
    streams: dict[tuple[Line | None, int], tuple[Program, Run]]

    def stirred(self, program: Program) -> None:
        """Call its `stir` when the answers of this turn are on their way."""

    def watch(self, program: Program) -> None:
        """Call its `look` now and then, until that is False."""


class Program:
    """A function in its slot.

    Attributes:
        unit: what it is.
        slot: its number.
        meter: what it has used.
        heap: bytes of memory, as last seen.

    Args:
        unit: what it is.
        slot: its number.
        around: the worker.
    """

    def __init__(self, unit: Unit, slot: int, around: Around) -> None:
        self.unit = unit
        self.slot = slot
        self.meter = Meter(slot)
        self.heap = 0
        self._around = around
        self._limits = unit.limits
        self._realm: Realm | None = None
        self._handlers: frozenset[str] = frozenset()
        self._script = unit.form == "script"
        self._shift = _SCRIPT_LINES if self._script else 0
        self._numbers = 0
        self._runs: dict[int, Run] = {}
        self._after: dict[int, Run] = {}
        self._asking = self._nothing_asked()
        self._stray = Run(0, None, 0, "", 0)
        self._idle_since = 0
        self._stirred = False
        self._watched = False

    def _nothing_asked(self) -> Asking:
        return Asking(self.slot, self._limits, self._around.host, self._settle, self._over)

    # Loading, and letting go.

    def load(self) -> None:
        """Run its code, once.

        Raises:
            errors.InternalServerError: that fails; the detail is for the log.
        """
        realm = self._around.spares.take()
        began = _now()
        try:
            self._begin(realm)
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            said = failures.loading(error, self.unit, self._shift)
            raise errors.InternalServerError("functions.load", said) from None
        finally:
            self.meter.cold_starts += 1
            self.meter.ran_ns += _now() - began
            self._around.notes.note(self.meter)
        self._realm = realm
        self.heap = realm.heap
        self._turn(realm, None)
        if self._realm is None:
            raise errors.InternalServerError("functions.load", failures.ended(self.unit.main))

    def _begin(self, realm: Realm) -> None:
        unit, context = self.unit, realm.context
        if "\0" in unit.code:
            raise ValueError("the code holds a NUL character")
        context.set_memory_limit(self._limits.heap)
        grants = dict.fromkeys(grant.partition(":")[0] for grant in unit.grants)
        seed = base64.b64encode(os.urandom(32)).decode()
        realm.setup(_json(unit.env), _json(list(grants)), seed)
        if self._script:
            realm.script(unit.code)
            self._handlers = frozenset(("handler",))
        else:
            context.eval(unit.code)
            self._handlers = frozenset(realm.begin().split())
            if not self._handlers:
                raise ValueError("it has no handler(request, env), consume or scheduled")
        context.set_time_limit(self._limits.cpu)

    def see(self) -> int:
        """Look at the bytes that it takes."""
        if self._realm is not None:
            self.heap = self._realm.heap
        return self.heap

    @property
    def busy(self) -> bool:
        """Whether something is under way in it."""
        return bool(self._runs or self._asking)

    def drop(self) -> None:
        """Let go of everything; nobody is told."""
        self._asking.cancel()
        self._realm = None

    # Requests and events.

    def request(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Answer a request whose body is whole."""
        began = _now()
        realm = self._realm
        if (
            realm is None
            or body
            or self._script
            or len(self._runs) >= self._limits.concurrency
            or "handler" not in self._handlers
        ):
            self._uncommon(line, stream, head, body, began)
            return
        number = self._numbers = self._numbers + 1
        text = head.decode("utf-8", "replace")
        try:
            said = realm.run(number, text)
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            self._broken(error, Run(number, line, stream, text, began))
            return
        if (
            said is not None
            and said[-1] == "\x01"
            and (start := answers.COMMON.get(said[0])) is not None
        ):
            answer = said[1:-1].encode()
            # What may be a page, or is too long, is looked at with more care.
            if answer[:1] > b"<" and len(answer) <= self._limits.response:
                line.send(frames.REPLY, stream, start + answer)
                self._quick(began, len(answer))
                return
        self._said(realm, said, Run(number, line, stream, text, began))

    def _quick(self, began: int, size: int) -> None:
        """Count a request that was answered at once."""
        meter = self.meter
        took = _now() - began
        meter.requests += 1
        meter.response_bytes += size
        meter.execution_ns += took
        meter.ran_ns += took
        if not meter.noted:
            self._around.notes.note(meter)
        if not self._stirred:
            self._stirred = True
            self._around.stirred(self)

    def _uncommon(self, line: Line, stream: int, head: bytes, body: bytes, began: int) -> None:
        run = self._run(line, stream, head, began)
        if len(body) > self._limits.request:
            self._fail(run, failures.body(self._limits))
        elif (realm := self._ready(run, "handler")) is not None:
            if self._script:
                path = run.head.split("\n", 4)[4]
                self._enter(realm, run, lambda: realm.execute(run.number, path))
            else:
                given = crossing.crossing(body) if body else ()
                self._enter(realm, run, lambda: realm.run(run.number, run.head, *given))

    def open(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Begin a request whose body follows."""
        run = self._run(line, stream, head, _now())
        if (realm := self._ready(run, "handler")) is None:
            return
        # So that it is seen to have been taken up.
        run.send(frames.GRANT, b"0")
        source = -run.number
        incoming = self._asking.expect(run, source, lambda size: _grant(run, size))
        incoming.take(body)
        self._around.streams[line, stream] = self, run
        if self._script:
            self._enter(realm, run, lambda: realm.execute(run.number, run.head.split("\n", 4)[4]))
        else:
            given = (run.number, run.head, None, crossing.TEXT, source)
            self._enter(realm, run, lambda: realm.run(*given))

    def event(self, line: Line, stream: int, handler: str, event: bytes) -> None:
        """Let it handle an event."""
        run = self._run(line, stream, b"", _now())
        if handler == "handler":
            self._fail(run, failures.missing(self.unit.main, "consume or scheduled"))
        elif (realm := self._ready(run, handler)) is not None:
            text = event.decode("utf-8", "replace")
            self._enter(realm, run, lambda: realm.event(run.number, handler, text))

    def _run(self, line: Line, stream: int, head: bytes, began: int) -> Run:
        self._numbers += 1
        return Run(self._numbers, line, stream, head.decode("utf-8", "replace"), began)

    def _ready(self, run: Run, handler: str) -> Realm | None:
        """The realm to run something in, loaded again if the last one was ended."""
        if len(self._runs) >= self._limits.concurrency:
            self._fail(run, failures.limit("concurrency", self._limits))
            return None
        if self._realm is None:
            try:
                self.load()
            except errors.Error as error:
                self._log(run, "error", error.detail)
                self._fail(run, failures.load())
                return None
        if handler not in self._handlers:
            self._fail(run, failures.missing(self.unit.main, handler))
            return None
        return self._realm

    def frame(self, run: Run, kind: int, payload: bytes) -> None:
        """More of a request, or a word on its answer, has come."""
        if kind == frames.CANCEL:
            self.leave(run)
            return
        if kind == frames.GRANT:
            size = int(payload) if payload.isdigit() else 0
            run.room += size
            self._room(run, size)
        elif (incoming := self._asking.body(-run.number)) is not None:
            if kind == frames.ITEM:
                incoming.take(payload)
            elif kind == frames.END:
                incoming.end()
            elif kind == frames.ERROR:
                incoming.end(errors.from_wire(payload))

    def leave(self, run: Run) -> None:
        """Nobody wants the answer of a run any more; it goes on, as it may be at work."""
        streaming = run.answered and run.number in self._runs
        run.answered = True
        self._close(run)
        if streaming:
            self._room(run, -1)

    def look(self) -> bool:
        """End what takes too long; False if there is nothing to look after."""
        now = _now()
        late = now - int(self._limits.wall * 1e9)
        for run in list(self._runs.values()):
            if run.began > late:
                break
            if not run.answered:
                error = failures.limit("wall", self._limits)
                self._log(run, "error", error.detail)
                self._fail(run, error)
        if self._runs or not self._asking:
            self._idle_since = 0
        elif not self._idle_since:
            self._idle_since = now
        elif now - self._idle_since > LINGER * 1e9:
            self._asking.cancel()
            self._after.clear()
            if self._realm is not None:
                self._realm.clear()
        self._watched = self.busy
        return self._watched

    # Into the realm, and what comes out.

    def _enter(self, realm: Realm, run: Run, entry: Callable[[], str | None]) -> None:
        """Run something that may answer at once."""
        try:
            said = entry()
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            self._broken(error, run)
            return
        self._said(realm, said, run)

    def _said(self, realm: Realm, said: str | None, run: Run) -> None:
        """A run has begun, and perhaps answered."""
        self.meter.ran_ns += _now() - run.began
        self._runs[run.number] = run
        if said is None:
            self._around.streams[run.line, run.stream] = self, run
            self._turn(realm, run)
            if run.number in self._runs:
                self._watch()
            return
        if (end := said[-1:]) not in ("\x01", "\x02"):
            # The engine has cut it where it holds a NUL.
            said, end = msgspec.json.decode(realm.again()) + "\x02", "\x02"
        self._answer(run, said[:-1])
        if end == "\x02" or run.number in self._runs:
            self._turn(realm, run)
        elif not self._stirred:
            self._stirred = True
            self._around.stirred(self)

    def stir(self) -> None:
        """Do the jobs that were left by those who answered at once."""
        self._stirred = False
        realm = self._realm
        if realm is None:
            return
        began = _now()
        try:
            if not realm.step():
                return
        except Failure as error:
            if not self._survives(realm, error, None):
                return
        self.meter.ran_ns += _now() - began
        self._turn(realm, None)

    def _settle(self, run: Run, number: int, *said: Any) -> None:
        """Something that was asked for has come."""
        realm = self._realm
        if realm is None:
            return
        began = _now()
        try:
            realm.settle(number, *said)
        except Failure as error:
            if not self._survives(realm, error, run):
                return
        self.meter.ran_ns += _now() - began
        self._turn(realm, run)

    def _room(self, run: Run, size: int) -> None:
        """A streamed answer may go on, or shall end."""
        realm = self._realm
        if realm is None:
            return
        try:
            realm.grant(run.number, size)
        except Failure as error:
            if not self._survives(realm, error, run):
                return
        self._turn(realm, run)

    def _turn(self, realm: Realm, run: Run | None) -> None:
        """Do all jobs there are, and take what has been asked for."""
        began, step, most = _now(), realm.step, self._limits.cpu * 1e9
        while True:
            try:
                while step():
                    if _now() - began > most:
                        self._end(run, failures.CPU)
                        return
                break
            except Failure as error:
                if not self._survives(realm, error, run):
                    return
        try:
            said = realm.take()
        except Failure as error:
            self._survives(realm, error, run)
            return
        finally:
            self.meter.ran_ns += _now() - began
        if said:
            self._take(realm, said, run)
        if self._runs and not self._asking and realm is self._realm:
            self._unsettled()

    def _survives(self, realm: Realm, error: Exception, run: Run | None) -> bool:
        """Whether the realm can go on after a job has failed."""
        text = str(error)
        if which := failures.broken(text):
            self._end(run, which)
            return False
        self._log(run, "error", "Uncaught " + failures.trace(text, self.unit.main, self._shift))
        return True

    def _broken(self, error: Exception, run: Run) -> None:
        """The engine has ended a run."""
        self.meter.ran_ns += _now() - run.began
        self._runs[run.number] = run
        if which := failures.broken(str(error)):
            self._end(run, which)
            return
        text = failures.trace(str(error), self.unit.main, self._shift)
        self._log(run, "error", "Uncaught " + text)
        self._fail(run, failures.exception())

    def _end(self, culprit: Run | None, which: str) -> None:
        """Throw the realm away; who was in it is told."""
        self._realm = None
        self._asking.cancel()
        # Another one, as numbers begin anew in the next realm.
        self._asking = self._nothing_asked()
        runs, self._runs = list(self._runs.values()), {}
        self._after.clear()
        if culprit is None and len(runs) == 1:
            (culprit,) = runs
        error = failures.limit(which, self._limits)
        self._log(culprit, "error", error.detail)
        for run in runs:
            self._fail(run, error if culprit is None or run is culprit else failures.lost())

    def _unsettled(self) -> None:
        """Nothing is to come any more: who still waits does so for ever."""
        for run in list(self._runs.values()):
            if run.room > 0:
                self._fail(run, failures.unsettled())

    # What the function says.

    def _take(self, realm: Realm, said: str, current: Run | None) -> None:
        try:
            if said[-1] != "]":
                # Behind what was asked for is an answer, which the engine may have cut.
                whole = said[:-1] if said[-1] == "\x01" else msgspec.json.decode(realm.again())
                said, number, answer = whole.split("\n", 2)
                self._answered(current, int(number), answer)
                if said == "[]":
                    return
            for word, *rest in crossing.asked(said):
                if self._realm is not realm:
                    return
                self._words[word](self, current, *rest)
        except (ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
            # Nothing but a function that has broken its own realm could do this.
            self._log(current, "error", f"the function has broken its own surroundings: {error}")
            self._end(current, failures.BROKEN)

    def _of(self, number: int, current: Run | None) -> Run:
        """The run that something is said by; one that has been answered is kept as long."""
        run = self._runs.get(number) or self._after.get(number)
        if run is None and current is not None and current.number == number:
            return current
        if run is None:
            # Of one that was answered long ago: what such do is counted together.
            if not self._stray.open:
                self._stray = Run(0, None, 0, "", 0)
            return self._stray
        return run

    def _ask(self, name: str, current: Run | None, number: int, of: int, *rest: Any) -> None:
        run = self._of(of, current)
        if run.number not in self._runs:
            self._after[run.number] = run
        getattr(self._asking, name)(run, number, *rest)
        self._watch()

    def _fetch(self, current: Run | None, number: int, of: int, *rest: Any) -> None:
        self.meter.fetches += 1
        url, method, headers, body, is_base64, redirect = rest
        pairs = msgspec.convert(headers, list[tuple[str, str]])
        self._ask("fetch", current, number, of, url, method, pairs, body, is_base64, redirect)

    def _use(self, current: Run | None, number: int, of: int, *rest: Any) -> None:
        self.meter.fetches += 1
        self._ask("use", current, number, of, *rest)

    def _timer(self, current: Run | None, number: int, of: int, milliseconds: float) -> None:
        self._ask("timer", current, number, of, milliseconds)

    def _piece(self, current: Run | None, number: int, of: int, body: int) -> None:
        self._ask("piece", current, number, of, body)

    def _whole(self, current: Run | None, number: int, of: int, body: int) -> None:
        self._ask("whole", current, number, of, body)

    def _forget(self, current: Run | None, number: int) -> None:
        self._asking.forget(number)

    def _discard(self, current: Run | None, number: int) -> None:
        self._asking.discard(number)

    def _line(self, current: Run | None, of: int, level: str, text: str) -> None:
        if level == "error":
            text = failures.trace(text, self.unit.main, self._shift)
        self._log(self._of(of, current), level, text)

    def _answered(self, current: Run | None, of: int, said: str) -> None:
        if (run := self._runs.get(of)) is not None:
            self._answer(run, said)

    def _stream(self, current: Run | None, of: int, piece: str) -> None:
        if (run := self._runs.get(of)) is not None:
            data = base64.b64decode(piece)
            run.room -= len(data)
            self.meter.response_bytes += len(data)
            run.send(frames.ITEM, data)

    def _streamed(self, current: Run | None, of: int) -> None:
        if (run := self._runs.get(of)) is not None:
            run.send(frames.END, b"")
            self._close(run)

    def _torn(self, current: Run | None, of: int) -> None:
        if (run := self._runs.get(of)) is not None:
            self._fail(run, failures.exception())

    _words: dict[str, Callable[..., None]] = {  # noqa: RUF012 - never changed
        "a": _answered,
        "c": _use,
        "d": _discard,
        "f": _fetch,
        "l": _line,
        "p": _piece,
        "q": _torn,
        "s": _stream,
        "t": _timer,
        "w": _whole,
        "x": _forget,
        "z": _streamed,
    }

    # Answers.

    def _answer(self, run: Run, said: str) -> None:
        """A run has answered, or failed."""
        if run.answered:
            self._close(run)
            return
        if said == "mnull":
            # An engine that has no room for an error throws null; so may anybody.
            said = "x" if failures.throws_null(self.unit.code) else "mmemory"
        try:
            given = answers.answer(said, self._limits)
        except errors.Error as error:
            if error.id != "functions.exception":
                self._log(run, "error", error.detail)
            self._fail(run, error)
            if error.id in _FATAL:
                self._end(None, failures.MEMORY)
            return
        run.send(frames.REPLY, given.payload)
        run.answered = True
        self._count(run, given.size)
        if given.streamed:
            self._around.streams[run.line, run.stream] = self, run
        else:
            self._close(run)

    def _fail(self, run: Run, error: errors.Error) -> None:
        """A run ends by an error, before its answer or within."""
        run.send(frames.ERROR, error.to_wire())
        self.meter.errors += 1
        if not run.answered:
            run.answered = True
            self._count(run, 0)
        self._close(run)

    def _count(self, run: Run, size: int) -> None:
        meter = self.meter
        meter.requests += 1
        meter.response_bytes += size
        meter.execution_ns += _now() - run.began
        if not meter.noted:
            self._around.notes.note(meter)

    def _close(self, run: Run) -> None:
        """Nothing more is sent of a run."""
        self._around.streams.pop((run.line, run.stream), None)
        self._asking.discard(-run.number)
        if self._runs.pop(run.number, None) is not None and run.open:
            self._after[run.number] = run

    def _over(self, run: Run) -> None:
        """One thing less is to come for a run."""
        if not run.open and run.number not in self._runs:
            self._after.pop(run.number, None)
            for body in run.bodies:
                self._asking.discard(body)

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._around.watch(self)

    def _log(self, run: Run | None, level: str, text: str) -> None:
        self._around.notes.log(self.slot, level, text, run.trace if run else "")


def _grant(run: Run, size: int) -> None:
    run.send(frames.GRANT, b"%d" % size)


def _json(value: Any) -> str:
    """JSON that may cross into the engine: a NUL in it is escaped."""
    return msgspec.json.encode(value).decode()
