"""One loaded function: its realm, the entries to it, and what comes out."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.functions.interface import Unit
from microcosmos.functions.replay import stream_key
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from . import answers, crossing, failures
from .around import Around
from .entries import Entries
from .host import Meter
from .limits import LINGER, LOOKING, LOOKS
from .realm import Failure, Realm
from .run import Run
from .runs import Runs
from .words import Words

_SCRIPT_LINES = 2
"""Lines that the engine counts before those of a script."""

_now = time.perf_counter_ns
_used = time.process_time_ns


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
        meter: counts what it uses; its own unless said.
    """

    def __init__(self, unit: Unit, slot: int, around: Around, meter: Meter | None = None) -> None:
        self.unit = unit
        self.slot = slot
        self.heap = 0
        self._around = around
        self._limits = unit.limits
        self._realm: Entries | None = None
        self._handlers: frozenset[str] = frozenset()
        self._script = unit.form == "script"
        self._shift = _SCRIPT_LINES if self._script else 0
        self._runs = Runs(self, around, self._settle, self._end, meter)
        self._open = self._runs.open
        self._words = Words(self._runs, unit.main, self._shift)
        self.meter = self._runs.meter
        self._idle_since = 0
        self._unseen = 0
        self._stirred = False
        self._most = int(unit.limits.cpu * 1e9)
        # Before this nobody asks the system how much of the processor that was.
        self._soon = self._most // 4
        self._before = 0

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
            raise errors.InternalServerError("functions.load", failures.never_began(self.unit.main))

    def _begin(self, realm: Realm) -> None:
        unit, context = self.unit, realm.context
        if "\0" in unit.code:
            raise ValueError("the code holds a NUL character")
        context.set_memory_limit(self._limits.heap)
        context.set_max_stack_size(self._limits.stack)
        realm.setup(*self._given())
        if self._script:
            realm.script(unit.code)
            self._handlers = frozenset(("handler",))
        else:
            context.eval(unit.code)
            self._handlers = frozenset(realm.begin().split())
            if not self._handlers:
                raise ValueError("it has no handler(request, env), consume or scheduled")
        context.set_time_limit(self._limits.cpu)

    def _given(self) -> tuple[Any, ...]:
        """What a realm is set up with: variables, bindings, randomness, and a clock in a replay."""
        unit, replay = self.unit, self.unit.replay
        grants = dict.fromkeys(grant.partition(":")[0] for grant in unit.grants)
        key = os.urandom(32) if replay is None else stream_key(replay.seed)
        world = () if replay is None else (replay.clock, replay.step)
        return _json(unit.env), _json(list(grants)), base64.b64encode(key).decode(), *world

    def see(self) -> int:
        """Look at the bytes that it takes."""
        began = _now()
        if self._realm is not None and began >= self._unseen:
            self.heap = self._realm.heap
            now = _now()
            # The engine walks all of its heap to tell.
            self._unseen = now + max(int(LOOKS * 1e9), (now - began) * LOOKING)
        return self.heap

    @property
    def busy(self) -> bool:
        """Whether something is under way in it."""
        return bool(self._runs)

    def drop(self) -> None:
        """Let go of everything; nobody is told."""
        self._runs.asking.cancel()
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
            or len(self._open) >= self._limits.concurrency
            or "handler" not in self._handlers
        ):
            self._uncommon(line, stream, head, body, began)
            return
        number = self._runs.number()
        text = head.decode("utf-8", "replace")
        try:
            said = realm.run(number, text)
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            self._broken(error, Run(number, line, stream, text, began))
            return
        if said is None or not self._at_once(line, stream, said, began):
            self._said(realm, said, Run(number, line, stream, text, began))

    def _at_once(self, line: Line, stream: int, said: str, began: int) -> bool:
        """Answer a request, and count it, if there is nothing special about its answer."""
        if said[-1] != "\x01" or (start := answers.COMMON.get(said[0])) is None:
            return False
        answer = said[1:-1].encode()
        # What may be a page, or is too long, is looked at with more care.
        if answer[:1] <= b"<" or len(answer) > self._limits.response:
            return False
        line.send(frames.REPLY, stream, start + answer)
        meter = self.meter
        took = _now() - began
        meter.requests += 1
        meter.response_bytes += len(answer)
        meter.execution_ns += took
        meter.ran_ns += took
        if not meter.noted:
            self._around.notes.note(meter)
        if took > self._soon:
            self._before = took
        if not self._stirred:
            self._stirred = True
            self._around.stirred(self)
        return True

    def _uncommon(self, line: Line, stream: int, head: bytes, body: bytes, began: int) -> None:
        run = self._runs.begin(line, stream, head, began)
        self.meter.request_bytes += len(body)
        if len(body) > self._limits.request:
            self._runs.fail(run, failures.body(self._limits))
        elif (realm := self._ready(run, "handler")) is not None:
            if self._script:
                path = run.head.split("\n", 4)[4]
                self._enter(realm, run, lambda: realm.execute(run.number, path))
            else:
                given = crossing.crossing(body) if body else ()
                self._enter(realm, run, lambda: realm.run(run.number, run.head, *given))

    def open(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Begin a request whose body follows."""
        run = self._runs.begin(line, stream, head, _now())
        self.meter.request_bytes += len(body)
        if (realm := self._ready(run, "handler")) is None:
            return
        # So that it is seen to have been taken up.
        run.send(frames.GRANT, b"0")
        source = -run.number
        incoming = self._runs.asking.expect(run, source, lambda size: _grant(run, size))
        incoming.take(body)
        self._runs.follow(run)
        if self._script:
            self._enter(realm, run, lambda: realm.execute(run.number, run.head.split("\n", 4)[4]))
        else:
            given = (run.number, run.head, None, crossing.TEXT, source)
            self._enter(realm, run, lambda: realm.run(*given))

    def event(self, line: Line, stream: int, handler: str, event: bytes) -> None:
        """Let it handle an event."""
        run = self._runs.begin(line, stream, b"", _now())
        self.meter.request_bytes += len(event)
        if handler == "handler":
            self._runs.fail(run, failures.missing(self.unit.main, "consume or scheduled"))
        elif (realm := self._ready(run, handler)) is not None:
            text = event.decode("utf-8", "replace")
            self._enter(realm, run, lambda: realm.event(run.number, handler, text))

    def _ready(self, run: Run, handler: str) -> Entries | None:
        """The realm to run something in, loaded again if the last one was ended."""
        if len(self._open) >= self._limits.concurrency:
            error = failures.limit("concurrency", self._limits)
            self._runs.log(run, "error", str(error))
            self._runs.fail(run, error)
            return None
        if self._realm is None:
            try:
                self.load()
            except errors.Error as error:
                self._runs.log(run, "error", error.detail)
                self._runs.fail(run, failures.load())
                return None
        if handler not in self._handlers:
            self._runs.fail(run, failures.missing(self.unit.main, handler))
            return None
        return self._realm

    def frame(self, run: Run, kind: int, payload: bytes) -> None:
        """More of a request, or a word on its answer, has come."""
        if kind == frames.CANCEL:
            self.leave(run)
            return
        if kind == frames.GRANT:
            size = int(payload) if payload.isdigit() else 0
            if run.room <= 0 < run.room + size:
                # From now on it is the function's turn.
                run.moved = _now()
            run.room += size
            self._room(run, size)
        elif (incoming := self._runs.asking.body(-run.number)) is not None:
            if kind == frames.ITEM:
                self.meter.request_bytes += len(payload)
                incoming.take(payload)
            elif kind == frames.END:
                incoming.end()
            elif kind == frames.ERROR:
                incoming.end(errors.from_wire(payload))

    def leave(self, run: Run) -> None:
        """Nobody wants the answer of a run any more; it goes on, as it may be at work."""
        if self._runs.leave(run):
            self._room(run, -1)

    def look(self) -> bool:
        """End what takes too long; False if there is nothing to look after."""
        runs = self._runs
        for run in runs.late():
            # Whatever makes the answer is told that nobody wants it.
            self._room(run, -1)
        if self._open or not runs.asking:
            self._idle_since = 0
        elif not self._idle_since:
            self._idle_since = _now()
        elif _now() - self._idle_since > LINGER * 1e9:
            runs.forget()
            if self._realm is not None:
                self._realm.clear()
        return runs.watched()

    # Into the realm, and what comes out.

    def _enter(self, realm: Entries, run: Run, entry: Callable[[], str | None]) -> None:
        """Run something that may answer at once."""
        try:
            said = entry()
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            self._broken(error, run)
            return
        self._said(realm, said, run)

    def _said(self, realm: Entries, said: str | None, run: Run) -> None:
        """A run has begun, and perhaps answered."""
        self.meter.ran_ns += _now() - run.began
        self._open[run.number] = run
        if said is None:
            self._runs.follow(run)
            self._turn(realm, run, run.began)
            if run.number in self._open:
                self._runs.watch()
            return
        if (end := said[-1:]) not in ("\x01", "\x02"):
            # The engine has cut it where it holds a NUL.
            said, end = msgspec.json.decode(realm.again()) + "\x02", "\x02"
        self._runs.answer(run, said[:-1])
        if end == "\x02" or run.number in self._open:
            self._turn(realm, run, run.began)
        elif not self._stirred:
            self._stirred = True
            self._around.stirred(self)

    def stir(self) -> None:
        """Do the jobs that were left by those who answered at once."""
        self._stirred = False
        realm = self._realm
        if realm is None:
            return
        began, before, self._before = _now(), self._before, 0
        try:
            if (before and not self._goes_on(realm, began - before)) or not realm.step():
                return
        except Failure as error:
            if not self._survives(error, None):
                return
        self.meter.ran_ns += _now() - began
        self._turn(realm, None, began - before)

    def _settle(self, run: Run, number: int, *said: Any) -> None:
        """Something that was asked for has come."""
        realm = self._realm
        if realm is None:
            return
        began, self._around.used = _now(), _used()
        self._around.mark[0] = self.slot
        try:
            realm.settle(number, *said)
        except Failure as error:
            if not self._survives(error, run):
                return
        self.meter.ran_ns += _now() - began
        self._turn(realm, run, began)
        self._around.mark[0] = 0

    def _room(self, run: Run, size: int) -> None:
        """A streamed answer may go on, or shall end."""
        realm = self._realm
        if realm is None:
            return
        began, self._around.used = _now(), _used()
        try:
            realm.grant(run.number, size)
        except Failure as error:
            if not self._survives(error, run):
                return
        self._turn(realm, run, began)

    def _goes_on(self, realm: Entries, since: int, run: Run | None = None) -> bool:
        """Whether there is time left of a stretch that has taken long; the engine keeps to it."""
        spent = min(_now() - since, _used() - self._around.used)
        if spent >= self._most:
            self._end(run, failures.CPU, spent / 1e9)
            return False
        realm.limit((self._most - spent) / 1e9)
        return True

    def _turn(self, realm: Entries, run: Run | None, since: int = 0) -> None:
        """Do all jobs there are, and take what has been asked for.

        Args:
            realm: whose.
            run: that they are of, if that is known.
            since: when this stretch began, if that was before.
        """
        began, step, soon = _now(), realm.step, self._soon
        since = since or began
        tight = began - since > soon
        if tight and not self._goes_on(realm, since, run):
            return
        while True:
            try:
                while step():
                    if _now() - since > soon:
                        tight = True
                        if not self._goes_on(realm, since, run):
                            return
                break
            except Failure as error:
                if not self._survives(error, run):
                    return
        try:
            said = realm.take()
        except Failure as error:
            self._survives(error, run)
            return
        finally:
            self.meter.ran_ns += _now() - began
            if tight:
                realm.limit(self._limits.cpu)
        if said:
            self._take(realm, said, run)
        if self._open and not self._runs.asking and realm is self._realm:
            self._runs.unsettled()

    def _take(self, realm: Entries, said: str, current: Run | None) -> None:
        try:
            self._words.take(said, realm.again, current)
        except (ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
            # Nothing but a function that has broken its own realm could do this.
            text = f"the function has broken its own surroundings: {error}"
            self._runs.log(current, "error", text)
            self._end(current, failures.BROKEN)

    def _survives(self, error: Exception, run: Run | None) -> bool:
        """Whether the realm can go on after a job has failed."""
        text = str(error)
        if which := failures.broken(text):
            self._end(run, which)
            return False
        text = failures.trace(text, self.unit.main, self._shift)
        self._runs.log(run, "error", "Uncaught " + text)
        return True

    def _broken(self, error: Exception, run: Run) -> None:
        """The engine has ended a run."""
        self.meter.ran_ns += _now() - run.began
        self._open[run.number] = run
        if which := failures.broken(str(error)):
            self._end(run, which)
            return
        text = failures.trace(str(error), self.unit.main, self._shift)
        self._runs.log(run, "error", "Uncaught " + text)
        self._runs.fail(run, failures.exception())

    def _end(self, culprit: Run | None, which: str, used: float = 0.0) -> None:
        """Throw the realm away; who was in it is told."""
        self._realm = None
        self._runs.end(culprit, which, used)


def _grant(run: Run, size: int) -> None:
    run.send(frames.GRANT, b"%d" % size)


def _json(value: Any) -> str:
    """JSON that may cross into the engine: a NUL in it is escaped."""
    return msgspec.json.encode(value).decode()
