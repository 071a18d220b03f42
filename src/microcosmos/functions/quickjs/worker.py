"""The process: lines in, functions in their slots, answers out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable

import msgspec
import uvloop

from microcosmos.base import errors
from microcosmos.functions import page, wire
from microcosmos.functions.interface import Unit
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from . import failures
from .around import Slotted
from .check import check
from .host import Host, Notes
from .limits import DRAIN
from .program import Program
from .realm import Spares
from .replayed import Replayed
from .run import Run

_log = logging.getLogger(__name__)
_now = time.perf_counter_ns

LOOK = 0.1
"""Seconds between looks at what is under way."""

SLICE = 10_000_000
"""Nanoseconds that requests run before other things are looked at, beats above all."""

_IDLE = 0.02
"""Seconds without a load until another spare realm is made."""

_LAST_WORDS = 1.0
"""Seconds to tell the host what it has not heard yet."""


def run(listener: socket.socket, make: Callable[[], Worker] | None = None) -> None:
    """Work for whoever connects, until SIGTERM or the host's GOAWAY.

    Args:
        listener: where they connect.
        make: makes what works, unless that is a `Worker`; called in the loop.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(listener, make or Worker))


async def _work(listener: socket.socket, make: Callable[[], Worker]) -> None:
    worker = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.ending.set)
    server = await loop.create_unix_server(worker.accept, sock=listener)
    await worker.ending.wait()
    # A host that is started anew meanwhile may still come.
    await worker.leave()
    server.close()


class Worker:
    """Functions by their slots, and the lines that they are asked for on.

    Attributes:
        host: does what functions may not do themselves.
        notes: is told what they use.
        spares: gives realms.
        streams: the runs that frames may still come for.
        used: nanoseconds of the processor, as of `Around`.
        mark: tells from outside which slot runs, as of `page.Page`.
        ending: set when it shall end.
    """

    def __init__(self) -> None:
        self.host = Host()
        self.notes = Notes(self.host, self._heap)
        self.spares = Spares()
        self.streams: dict[tuple[Line | None, int], tuple[Slotted, Run]] = {}
        self.used = 0
        self._page = page.mine()
        self._page.tell()
        self.mark = self._page.mark
        self.ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._lines: set[Line] = set()
        self._slots = itertools.count(1)
        self._programs: dict[int, Program] = {}
        self._keys: dict[str, Program] = {}
        self._leaving: dict[int, Program] = {}
        self._stirred: list[Slotted] = []
        self._waiting: deque[tuple[Line, int, bytes]] = deque()
        self._turning = False
        self._since = 0
        self._watched: list[Slotted] = []
        self._looking = False
        self._gone = asyncio.Event()
        self._refill: asyncio.TimerHandle | None = None
        self._verbs: dict[str, Callable[[Line, int, bytes], object]] = {
            wire.LOAD: self._load,
            wire.DROP: self._drop,
            wire.CHECK: self._check,
            wire.HOST: self._host,
        }
        self._soon_spare()

    # Lines.

    def accept(self) -> Line:
        """A line for whoever connects."""
        line = Line(self._received, self._lost)
        self._lines.add(line)
        if self.ending.is_set():
            self._loop.call_soon(line.send, frames.GOAWAY, 0, b"")
        return line

    async def leave(self) -> None:
        """Ask for no new requests, answer those that come, and tell what there is to tell."""
        for line in self._lines:
            line.send(frames.GOAWAY, 0, b"")
        try:
            async with asyncio.timeout(DRAIN):
                while self._lines and not self._idle_but_host():
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            _log.warning("a worker ends, though functions in it are not done")
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self.notes.told()
        except TimeoutError:
            _log.warning("a worker ends, and its host has not heard all of it")
        for line in list(self._lines):
            line.close()

    def _idle_but_host(self) -> bool:
        """Whether nobody can ask for anything any more, and nothing is under way."""
        others = any(not self.host.on(line) for line in self._lines)
        busy = any(program.busy for program in self._programs.values())
        return not others and not busy and not self._leaving

    def _lost(self, line: Line) -> None:
        self._lines.discard(line)
        for (of, _), (program, run) in list(self.streams.items()):
            if of is line:
                self.mark[0] = program.slot
                program.leave(run)
        self.mark[0] = 0
        self.host.lost(line)
        self._gone.set()

    def _received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        try:
            if kind == frames.REQUEST and stream < wire.ASKED:
                if not self._turning:
                    self._begin_turn()
                elif self._waiting or _now() - self._since > SLICE:
                    self._waiting.append((line, stream, payload))
                    return
                self._request(line, stream, payload)
            else:
                self._more(line, kind, stream, payload)
        except Exception:  # noqa: BLE001 - it is logged
            # One request that meets an error of ours shall not end all on its line.
            _log.exception("a request failed in the worker")
            if stream < wire.ASKED:
                line.send(frames.ERROR, stream, failures.exception().to_wire())

    def _request(self, line: Line, stream: int, payload: bytes) -> None:
        try:
            slot, head, body = wire.unpack_request(payload)
        except ValueError:
            line.abort()
            return
        if (program := self._programs.get(slot)) is not None:
            # Until the end of this turn, or until another one runs.
            self.mark[0] = slot
            program.request(line, stream, head, body)
        elif slot:
            line.send(frames.ERROR, stream, failures.unloaded(slot).to_wire())
        else:
            self._said(line, stream, head, body)

    def _begin_turn(self) -> None:
        self._turning = True
        self._since = _now()
        self.used = time.process_time_ns()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Do what was left for when the answers of this turn are on their way."""
        self._turning = False
        stirred, self._stirred = self._stirred, []
        for program in stirred:
            self.mark[0] = program.slot
            program.stir()
        self.mark[0] = 0
        # Requests that had to wait have their own slice, at the end of which others wait again.
        waiting, self._waiting = self._waiting, deque()
        while waiting and not self._waiting:
            line, stream, payload = waiting.popleft()
            self._received(line, frames.REQUEST, stream, payload)
        self._waiting.extend(waiting)

    def _more(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if stream >= wire.ASKED:
            self.host.received(kind, stream, payload)
        elif kind == frames.BEAT:
            line.send(frames.BEAT, stream, payload)
        elif kind == frames.OPEN:
            self._open(line, stream, payload)
        elif kind == frames.GOAWAY:
            self.ending.set()
        elif (known := self.streams.get((line, stream))) is not None:
            program, run = known
            self.mark[0] = program.slot
            program.frame(run, kind, payload)
            self.mark[0] = 0

    def _open(self, line: Line, stream: int, payload: bytes) -> None:
        try:
            slot, head, body = wire.unpack_request(payload)
        except ValueError:
            line.abort()
            return
        if (program := self._programs.get(slot)) is not None:
            self.mark[0] = slot
            program.open(line, stream, head, body)
            self.mark[0] = 0
        else:
            line.send(frames.ERROR, stream, failures.unloaded(slot).to_wire())

    # Verbs.

    def _said(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Do what the worker itself was told."""
        word = head.decode("utf-8", "replace")
        try:
            if word == wire.EVENT:
                self._event(line, stream, body)
                return
            verb = self._verbs.get(word)
            if verb is None:
                raise errors.BadRequest("functions", f"a worker knows no {word!r:.40}")
            answer = wire.encode(verb(line, stream, body))
        except errors.Error as error:
            line.send(frames.ERROR, stream, error.to_wire())
        except (msgspec.DecodeError, ValueError) as error:
            refused = errors.BadRequest("functions", str(error))
            line.send(frames.ERROR, stream, refused.to_wire())
        else:
            line.send(frames.REPLY, stream, wire.pack_reply(200, wire.JSON, b"", answer))

    def _load(self, line: Line, stream: int, body: bytes) -> wire.Loaded:
        unit = wire.decode_unit(body)
        program = self._keys.get(unit.key)
        if program is None:
            program = self._made(unit)
            self._page.loading(unit.key)
            try:
                program.load()
            finally:
                self.mark[0] = 0
            self._programs[program.slot] = self._keys[unit.key] = program
            self._soon_spare()
        return _loaded(program)

    def _made(self, unit: Unit) -> Program:
        kind = Program if unit.replay is None else Replayed
        return kind(unit, next(self._slots), self)

    def _drop(self, line: Line, stream: int, body: bytes) -> None:
        slot = msgspec.json.decode(body, type=wire.Slot).slot
        program = self._programs.pop(slot, None)
        if program is not None:
            self._keys.pop(program.unit.key, None)
            if program.busy:
                self._leaving[slot] = program
                self.watch(program)
            else:
                program.drop()

    def _check(self, line: Line, stream: int, body: bytes) -> wire.Checked:
        return check(msgspec.json.decode(body, type=wire.Source))

    def _host(self, line: Line, stream: int, body: bytes) -> list[wire.Loaded]:
        self.host.found(line)
        self._loop.call_soon(self.notes.go_on)
        return [_loaded(program) for program in self._programs.values()]

    def _event(self, line: Line, stream: int, body: bytes) -> None:
        event = msgspec.json.decode(body, type=wire.Event)
        program = self._programs.get(event.slot)
        if program is None:
            raise failures.unloaded(event.slot)
        self.mark[0] = event.slot
        program.event(line, stream, event.handler, bytes(event.event))

    # What is done beside.

    def stirred(self, program: Slotted) -> None:
        """Call its `stir` when the answers of this turn are on their way."""
        self._stirred.append(program)
        if not self._turning:
            self._begin_turn()

    def watch(self, program: Slotted) -> None:
        """Call its `look` now and then, until that is False."""
        self._watched.append(program)
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        watched, self._watched = self._watched, []
        self._watched += [program for program in dict.fromkeys(watched) if self._looked(program)]
        self.mark[0] = 0
        for slot, program in list(self._leaving.items()):
            if not program.busy:
                del self._leaving[slot]
                program.drop()
        self._looking = bool(self._watched)
        if self._looking:
            self._loop.call_later(LOOK, self._look)
        self._gone.set()

    def _looked(self, program: Slotted) -> bool:
        self.mark[0] = program.slot
        return program.look()

    def _heap(self, slot: int) -> int:
        program = self._programs.get(slot) or self._leaving.get(slot)
        return program.see() if program is not None else 0

    def _soon_spare(self) -> None:
        """Make spare realms once there is nothing else to do."""
        if self._refill is not None:
            self._refill.cancel()
        self._refill = self._loop.call_later(_IDLE, self._spare)

    def _spare(self) -> None:
        self._refill = None
        if self.spares.refill():
            self._soon_spare()


def _loaded(program: Program) -> wire.Loaded:
    unit = program.unit
    return wire.Loaded(
        key=unit.key,
        slot=program.slot,
        heap=program.heap,
        namespace=unit.namespace,
        name=unit.name,
        number=unit.number,
    )
