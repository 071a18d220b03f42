"""The requests and events of one function that are under way, and how they end."""

from __future__ import annotations

import time
from collections.abc import Callable

from microcosmos.base import errors
from microcosmos.functions.ended import logs_cut
from microcosmos.functions.interface import Unit
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from . import answers, failures
from .around import Around, Slotted
from .asking import Asking, Settle
from .host import Meter
from .run import Run
from .timeless import Timeless

_now = time.perf_counter_ns

_FATAL = ("functions.limit.memory",)
"""What a realm is not used any more after, though it could say so itself."""


class Runs:
    """Those of one function.

    Attributes:
        open: those that have not been answered wholly, by number, the oldest first.
        meter: what they have used.
        asking: what they wait for.

    Args:
        program: the function that they are of.
        around: the worker.
        settle: tells the function what it has waited for.
        broken: is told of a realm that has broken, by which run and by what.
        meter: counts what they use; its own unless said.
    """

    def __init__(
        self,
        program: Slotted,
        around: Around,
        settle: Settle,
        broken: Callable[[Run | None, str], None],
        meter: Meter | None = None,
    ) -> None:
        self.open: dict[int, Run] = {}
        self.meter = meter or Meter(program.slot)
        self._unit: Unit = program.unit
        self._limits = program.unit.limits
        self._program = program
        self._around = around
        self._settle = settle
        self._broken = broken
        self._numbers = 0
        self._after: dict[int, Run] = {}
        self._stray = Run(0, None, 0, "", 0)
        self._watched = False
        self.asking = self._nothing_asked()

    def _nothing_asked(self) -> Asking:
        slot, host = self._program.slot, self._around.host
        if self._unit.replay is not None:
            return Timeless(
                slot, self._limits, host, self._settle, self._over, lambda: bool(self.open)
            )
        return Asking(slot, self._limits, host, self._settle, self._over)

    def __bool__(self) -> bool:
        """Whether something is under way, or still to come."""
        return bool(self.open or self.asking)

    def number(self) -> int:
        """The next one's."""
        self._numbers += 1
        return self._numbers

    def begin(self, line: Line, stream: int, head: bytes, began: int) -> Run:
        """A new one, which is not under way before the realm has been entered."""
        return Run(self.number(), line, stream, head.decode("utf-8", "replace"), began)

    def of(self, number: int, current: Run | None) -> Run:
        """The one that something is said by; one that has been answered is kept as long."""
        run = self.open.get(number) or self._after.get(number)
        if run is None and current is not None and current.number == number:
            return current
        if run is None:
            # Of one that was answered long ago: what such do is counted together.
            if not self._stray.open:
                self._stray = Run(0, None, 0, "", 0)
            return self._stray
        return run

    def keep(self, run: Run) -> None:
        """It waits for something, be it answered or not."""
        if run.number not in self.open:
            self._after[run.number] = run
        self.watch()

    def follow(self, run: Run) -> None:
        """Frames may still come for it."""
        self._around.streams[run.line, run.stream] = self._program, run

    # How they end.

    def answer(self, run: Run, said: str) -> None:
        """It has answered, or failed."""
        if run.answered:
            self.close(run)
            return
        if said == "mnull":
            # An engine that has no room for an error throws null; so may anybody.
            said = "x" if failures.throws_null(self._unit.code) else "mmemory"
        try:
            given = answers.answer(said, self._limits)
        except errors.Error as error:
            if error.id != "functions.exception":
                self.log(run, "error", str(error))
            self.fail(run, error)
            if error.id in _FATAL:
                self._broken(None, failures.MEMORY)
            return
        run.send(frames.REPLY, given.payload)
        run.answered = True
        self._count(run, given.size)
        if given.streamed:
            run.moved = _now()
            self.follow(run)
        else:
            self.close(run)

    def fail(self, run: Run, error: errors.Error) -> None:
        """It ends by an error, before its answer or within."""
        run.send(frames.ERROR, error.to_wire())
        self.meter.fail(error.id)
        if not run.answered:
            run.answered = True
            self._count(run, 0)
        self.close(run)

    def leave(self, run: Run) -> bool:
        """Nobody wants its answer any more; whether it was being streamed."""
        streaming = run.answered and run.number in self.open
        if not run.answered:
            run.answered = True
            self._count(run, 0)
        self.close(run)
        return streaming

    def close(self, run: Run) -> None:
        """Nothing more is sent of it."""
        self._around.streams.pop((run.line, run.stream), None)
        self.asking.discard(-run.number)
        if self.open.pop(run.number, None) is not None and run.open:
            self._after[run.number] = run

    def unsettled(self) -> None:
        """Nothing is to come any more: who still waits does so for ever."""
        for run in list(self.open.values()):
            if run.room > 0:
                self.fail(run, failures.unsettled())

    def end(self, culprit: Run | None, which: str, used: float = 0.0) -> None:
        """All of them end, as their realm does; numbers begin anew in the next one."""
        self.asking.cancel()
        self.asking = self._nothing_asked()
        runs = list(self.open.values())
        self.open.clear()
        self._after.clear()
        if culprit is None and len(runs) == 1:
            (culprit,) = runs
        error = failures.limit(which, self._limits, used)
        self.log(culprit, "error", str(error))
        for run in runs:
            self.fail(run, error if culprit is None or run is culprit else failures.lost())

    def late(self) -> list[Run]:
        """End those that have not answered in time, or whose answer does not go on.

        Returns:
            Those whose answers had begun.
        """
        late = _now() - int(self._limits.wall * 1e9)
        begun = []
        for run in list(self.open.values()):
            if run.began > late:
                break
            # A reader who takes nothing is no fault of the function's.
            if not run.answered or (run.moved < late and run.room > 0):
                error = failures.limit("wall", self._limits)
                self.log(run, "error", str(error))
                if run.answered:
                    begun.append(run)
                self.fail(run, error)
        return begun

    def forget(self) -> None:
        """Let go of all that those who were answered have begun."""
        self.asking.cancel()
        self._after.clear()

    # What is done beside.

    def watch(self) -> None:
        """Have them looked at now and then."""
        if not self._watched:
            self._watched = True
            self._around.watch(self._program)

    def watched(self) -> bool:
        """Whether they are to be looked at again."""
        self._watched = bool(self)
        return self._watched

    def log(self, run: Run | None, level: str, text: str) -> None:
        """Write a line of the function's log."""
        self._around.notes.log(self._program.slot, level, text, run.trace if run else "")

    def line(self, run: Run, level: str, text: str) -> None:
        """Write a line that the function has said, unless its request has said too much."""
        before, most = run.logged, self._limits.logs
        run.logged += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if run.logged <= most:
            self.log(run, level, text)
        elif before <= most:
            self.log(run, "warn", logs_cut(self._limits))

    def _count(self, run: Run, size: int) -> None:
        meter = self.meter
        meter.requests += 1
        meter.response_bytes += size
        meter.execution_ns += _now() - run.began
        if not meter.noted:
            self._around.notes.note(meter)

    def _over(self, run: Run) -> None:
        """One thing less is to come for it."""
        if not run.open and run.number not in self.open:
            self._after.pop(run.number, None)
            for body in run.bodies:
                self.asking.discard(body)
