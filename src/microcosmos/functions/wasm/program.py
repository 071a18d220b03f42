"""One loaded function: an image of its realm, and the runs that each have one of their own."""

from __future__ import annotations

import time
from typing import Any

from microcosmos.base import errors
from microcosmos.functions.interface import Unit
from microcosmos.functions.quickjs import crossing, failures
from microcosmos.functions.quickjs.around import Around
from microcosmos.functions.quickjs.limits import LOAD_CPU
from microcosmos.functions.quickjs.program import Program
from microcosmos.functions.quickjs.run import Run
from microcosmos.rpc.line import Line

from .image import Image
from .origin import Origin
from .realm import Realm

_now = time.perf_counter_ns

_LINE = "l"
_TOO_EARLY = (
    "it asks for something while it is loaded; with isolation wasm each request begins where the "
    "loading ended, so timers, fetch and bindings belong in the handler"
)


class Loaded(Program):
    """A function in its slot.

    Args:
        unit: what it is.
        slot: its number.
        around: the worker.
        origin: of its realms.
    """

    def __init__(self, unit: Unit, slot: int, around: Around, origin: Origin) -> None:
        super().__init__(unit, slot, around)
        self._origin = origin
        self._image: Image | None = None
        self._alive: set[Once] = set()
        self._answered: list[Realm] = []

    # Loading, and letting go.

    def load(self) -> None:
        """Run its code, once, and keep what that has made.

        Raises:
            errors.InternalServerError: that fails; the detail is for the log.
        """
        began = _now()
        replayed = self.unit.replay is not None
        realm = Realm(self._origin, self._limits, anew=not replayed)
        try:
            self._set_up(realm)
            self._after_loading(realm, began)
            self._image = realm.image()
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            said = failures.loading(error, self.unit, self._shift)
            raise errors.InternalServerError("functions.load", said) from None
        finally:
            self.heap = realm.heap
            realm.close()
            self.meter.cold_starts += 1
            self.meter.ran_ns += _now() - began
            self._around.notes.note(self.meter)

    def _set_up(self, realm: Realm) -> None:
        unit = self.unit
        if "\0" in unit.code:
            raise ValueError("the code holds a NUL character")
        realm.setup(*self._given())
        if self._script:
            realm.script(unit.code)
            self._handlers = frozenset(("handler",))
            return
        self._handlers = frozenset(realm.source(unit.code).split())
        if not self._handlers:
            raise ValueError("it has no handler(request, env), consume or scheduled")

    def _after_loading(self, realm: Realm, began: int) -> None:
        while realm.step():
            if _now() - began > LOAD_CPU * 1e9:
                raise failures.Ended("InternalError: interrupted")
        if said := realm.take():
            if said[-1] != "]" or any(word != _LINE for word, *_ in crossing.asked(said)):
                raise ValueError(_TOO_EARLY)
            self._words.take(said, realm.again, None)

    def see(self) -> int:
        """The bytes of the largest of its realms, of late."""
        return self.heap

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._alive)

    def drop(self) -> None:
        """Let go of everything; nobody is told."""
        for realm in self._answered:
            realm.close()
        self._answered.clear()
        for once in list(self._alive):
            once.drop()
        if self._image is not None:
            self._image.close()
            self._image = None

    # Requests and events.

    def request(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Answer a request whose body is whole."""
        if body or self._script or "handler" not in self._handlers:
            if once := self._once(line, stream):
                once.request(line, stream, head, body)
            return
        began = _now()
        if (realm := self._fresh(line, stream)) is None:
            return
        text = head.decode("utf-8", "replace")
        try:
            said = realm.run(1, text)
        except Exception as error:  # noqa: BLE001 - whatever the engine ends it by
            self._kept(realm).fail(error, Run(1, line, stream, text, began))
            return
        if said is not None and self._at_once(line, stream, said, began):
            self._answered.append(realm)
        else:
            self._kept(realm).go_on(said, Run(1, line, stream, text, began))

    def stir(self) -> None:
        """Do the jobs that were left by those who answered at once."""
        self._stirred = False
        answered, self._answered = self._answered, []
        for realm in answered:
            began = _now()
            try:
                more = realm.step()
            except failures.Ended as error:
                self._kept(realm).survive(error)
            else:
                if more:
                    self._kept(realm).turn()
                else:
                    self.heap = realm.heap
                    realm.close()
            self.meter.ran_ns += _now() - began

    def open(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Begin a request whose body follows."""
        if once := self._once(line, stream):
            once.open(line, stream, head, body)

    def event(self, line: Line, stream: int, handler: str, event: bytes) -> None:
        """Let it handle an event."""
        if once := self._once(line, stream):
            once.event(line, stream, handler, event)

    def _once(self, line: Line, stream: int) -> Once | None:
        """What a new run is run by, unless there are too many."""
        realm = self._fresh(line, stream)
        return None if realm is None else self._kept(realm)

    def _kept(self, realm: Realm) -> Once:
        once = Once(self, realm, self._handlers)
        self._alive.add(once)
        return once

    def _fresh(self, line: Line, stream: int) -> Realm | None:
        alive, most = self._alive, self._limits.concurrency
        if len(alive) >= most and sum(once.open_runs for once in alive) >= most:
            self._refuse(line, stream, failures.limit("concurrency", self._limits))
            return None
        assert self._image is not None
        anew = self.unit.replay is None
        try:
            return Realm(self._origin, self._limits, self._image, anew=anew)
        except (OSError, MemoryError, failures.Ended):
            self._refuse(line, stream, failures.limit(failures.MEMORY, self._limits))
            return None

    def _refuse(self, line: Line, stream: int, error: errors.Error) -> None:
        run = self._runs.begin(line, stream, b"", _now())
        self._runs.log(run, "error", str(error))
        self._runs.fail(run, error)

    def over(self, once: Once, heap: int) -> None:
        """A run is over and done, and its realm has had so many bytes."""
        self._alive.discard(once)
        self.heap = heap

    @property
    def around(self) -> Around:
        """The worker."""
        return self._around


class Once(Program):
    """One run in a realm that nobody else is in, until nothing of it is to come any more.

    Args:
        function: that it is of.
        realm: nobody has entered yet.
        handlers: that are in it.
    """

    def __init__(self, function: Loaded, realm: Realm, handlers: frozenset[str]) -> None:
        super().__init__(function.unit, function.slot, function.around, function.meter)
        self._function = function
        self._own: Realm | None = realm
        self._realm = realm
        self._handlers = handlers

    @property
    def open_runs(self) -> int:
        """How many it has that are not answered wholly: one or none."""
        return len(self._open)

    def load(self) -> None:
        """There is no other realm for this run."""
        raise failures.load()

    def drop(self) -> None:
        """Let go of everything; nobody is told."""
        self._runs.asking.cancel()
        self._realm = None
        self._rest()

    def go_on(self, said: str | None, run: Run) -> None:
        """It has begun in its realm."""
        self._runs.number()
        assert self._realm is not None
        self._said(self._realm, said, run)
        self._rest()

    def fail(self, error: Exception, run: Run) -> None:
        """It was ended as soon as it had begun."""
        self._broken(error, run)
        self._rest()

    def survive(self, error: Exception) -> None:
        """A job of it has failed after its answer."""
        self._survives(error, None)
        self._rest()

    def turn(self) -> None:
        """Jobs of it were done after its answer, perhaps not all."""
        assert self._realm is not None
        self._turn(self._realm, None)
        self._rest()

    def request(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Answer it."""
        super().request(line, stream, head, body)
        self._rest()

    def open(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Begin it."""
        super().open(line, stream, head, body)
        self._rest()

    def event(self, line: Line, stream: int, handler: str, event: bytes) -> None:
        """Handle it."""
        super().event(line, stream, handler, event)
        self._rest()

    def frame(self, run: Run, kind: int, payload: bytes) -> None:
        """More of it has come."""
        super().frame(run, kind, payload)
        self._rest()

    def leave(self, run: Run) -> None:
        """Nobody wants the answer any more."""
        super().leave(run)
        self._rest()

    def look(self) -> bool:
        """End what takes too long; False if there is nothing to look after."""
        watched = super().look()
        self._rest()
        return watched

    def stir(self) -> None:
        """Do the jobs that were left."""
        super().stir()
        self._rest()

    def _settle(self, run: Run, number: int, *said: Any) -> None:
        super()._settle(run, number, *said)
        self._rest()

    def _rest(self) -> None:
        """Give the realm back, if it is not needed any more."""
        if self._own is None or self._stirred or (self._realm is not None and self.busy):
            return
        heap, realm = self._own.heap, self._own
        self._realm = self._own = None
        realm.close()
        self._function.over(self, heap)
