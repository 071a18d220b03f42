"""One worker, as its host knows it: the host's line to it, and what it has loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from microcosmos.base import errors
from microcosmos.functions import page, wire
from microcosmos.functions.interface import Limits, Unit
from microcosmos.functions.lines import AskedFrame, WorkerLine
from microcosmos.functions.replay import is_replayed
from microcosmos.functions.workers import Place, Where
from microcosmos.functions.zygote import messages

from .asked import Asked, Asking

LOAD_LIMIT = 10.0
"""Seconds that the loading of a version may take."""

DEFAULT_PATIENCE = Limits().cpu

LOAD_CPU = 1.0
"""Seconds of the processor that the loading of a version may take at a stretch."""

CHECK_CPU = 2.0
"""Seconds of the processor that a worker may use in which no version is loaded or being loaded: it
looks at a source."""

_VERB_LIMIT = 5.0
_LINGER = 60.0
_REMEMBERED = 4096

Units = Callable[[Where], Awaitable[Unit]]
"""Gives all that is needed to run a version; raises `errors.Error`."""

_loaded = msgspec.json.Decoder(list[wire.Loaded]).decode


@dataclass(slots=True)
class Running:
    """A version that a worker has loaded.

    Attributes:
        where: the version.
        slot: by which the worker knows it.
        unit: all that was needed, if this host has loaded it itself.
        heap: bytes that it takes, as far as is known.
        used: when it was last asked for or ran, on the monotonic clock.
        old: whether requests are to go to another version.
    """

    where: Where
    slot: int
    unit: Unit | None = None
    heap: int = 0
    used: float = field(default_factory=time.monotonic)
    old: bool = False

    def __post_init__(self) -> None:
        # No request but the one that it was loaded for goes there.
        self.old = self.old or is_replayed(self.where.key)


class Worker:
    """A worker.

    Attributes:
        id: what no other worker is called, now or later.
        pid: its process.
        kind: of the worker, an engine or ``wasm``.
        socket: where it listens.
        whom: the owner's name.
        started: when, in seconds since the epoch.
        heap: bytes that it may use, if its kind can be told.
        line: the host's own.
        running: what it has loaded, by key.
        loading: what it is loading, by key.
        retiring: whether it gets nothing new, because it is to end.
        used: when it last had something loaded, on the monotonic clock.
        load: part of a processor that it used of late.

    Args:
        worker: as the zygote knows it.
        line: leads to it.
        units: gives what adopted versions need.
    """

    def __init__(self, worker: messages.Worker, line: WorkerLine, units: Units) -> None:
        self.id = worker.id
        self.pid = worker.pid
        self.kind = worker.kind
        self.socket = worker.socket
        self.whom = worker.name
        self.started = worker.started
        self.heap = worker.heap
        self.line = line
        self.running: dict[str, Running] = {}
        self.loading: dict[str, Where] = {}
        self.retiring = False
        self.used = time.monotonic()
        self.load = 0.0
        self._slots: dict[int, Running] = {}
        self._units = units

    async def adopt(self, asking: Asking | None) -> None:
        """Be its host: hear what it has loaded, and answer what it asks.

        Raises:
            errors.Error: it does not answer.
        """
        early: list[tuple[int, int, bytes]] = []
        received: AskedFrame | None = None
        if asking is not None:
            asked: Asked = asking(self.line.send, self, self.id)
            received = asked.received
            self.line.asked = lambda *frame: early.append(frame)
            self.line.ended.add_done_callback(lambda _: asked.lost())
        for loaded in _loaded(await self.line.ask(wire.HOST, b"null", _VERB_LIMIT)):
            where = Where(loaded.namespace, loaded.name, loaded.number, loaded.key)
            self._keep(Running(where, loaded.slot, heap=loaded.heap))
        if received is not None:
            # A worker asks as soon as it has a host, which knew nothing of its slots until now.
            self.line.asked = received
            for frame in early:
                received(*frame)
        for key in [key for key in self.running if is_replayed(key)]:
            # Which world that was, nobody knows any more.
            await self.drop(key)

    async def load_unit(self, where: Where, unit: Unit) -> Running:
        """Load a version.

        Raises:
            errors.Error: it cannot be loaded, or the worker died of it.
        """
        body = wire.encode(unit)
        self.loading[where.key] = where
        try:
            answer = await self.line.ask(wire.LOAD, body, LOAD_LIMIT, key=where.key)
        finally:
            self.loading.pop(where.key, None)
        loaded = wire.decode_loaded(answer)
        return self._keep(Running(where, loaded.slot, unit, loaded.heap))

    async def drop(self, key: str) -> None:
        """Drop a version; one that is busy is dropped when it is not."""
        running = self.running.pop(key, None)
        if running is not None:
            self.used = time.monotonic()
            # What is under way goes on, and its last counts are still to come.
            asyncio.get_running_loop().call_later(_LINGER, _forget, running)
            await self.line.ask(wire.DROP, wire.encode(wire.Slot(running.slot)), _VERB_LIMIT)

    def place(self, running: Running) -> Place:
        """Where requests for a version go."""
        return Place(self.socket, running.slot, self.pid)

    def noted(self, notes: wire.Notes) -> None:
        """Take in what the worker has told of what it has loaded."""
        now = time.monotonic()
        for slot, heap in notes.heaps.items():
            if running := self._slots.get(slot):
                running.heap = heap
        for slot, counts in notes.counts.items():
            if counts.requests and (running := self._slots.get(slot)):
                running.used = now

    def has(self, name: str) -> bool:
        """Whether a version of a function of its owner is loaded."""
        return any(running.where.name == name for running in self.running.values())

    @property
    def usable(self) -> bool:
        """Whether anything new may go to it."""
        return self.line.usable and not self.retiring

    @property
    def memory(self) -> int:
        """Bytes that its versions take, as far as is known."""
        return sum(running.heap for running in self.running.values())

    # What its end is looked into by.

    def at(self, slot: int) -> Where | None:
        """The version of a slot, also of one that was dropped."""
        running = self._slots.get(slot)
        return None if running is None else running.where

    def where(self, key: str) -> Where | None:
        """The version of a key that runs here, or is being loaded."""
        running = self.running.get(key)
        return self.loading.get(key) if running is None else running.where

    def unit_of(self, key: str) -> Unit | None:
        """All that is needed of a version that runs here, if this host has loaded it."""
        running = self.running.get(key)
        return None if running is None else running.unit

    def recent(self, seconds: float) -> Iterator[Where]:
        """The versions that have run within so many seconds."""
        since = time.monotonic() - seconds
        return (one.where for one in self.running.values() if one.used >= since)

    async def patience(self, now: page.Running, owed: Iterable[str]) -> float:
        """Seconds of the processor that it may use without a word.

        Args:
            now: what it runs, if it tells.
            owed: keys of what is under way in it.
        """
        if now.slot == page.LOADING:
            return LOAD_CPU
        if now.slot > 0:
            return await self._limit(now.slot)
        if not now.known and self.loading:
            return LOAD_CPU
        slots = [self.running[key].slot for key in owed if key in self.running]
        return max([await self._limit(slot) for slot in slots or self._slots], default=CHECK_CPU)

    async def _limit(self, slot: int) -> float:
        try:
            return (await self.unit(slot)).limits.cpu
        except errors.Error:
            # It was dropped, or the core is away: it is given some more.
            return LOAD_CPU

    # What `Asked` wants to know.

    def name(self, slot: int) -> tuple[str, str] | None:
        """See `asked.Slots.name`."""
        running = self._slots.get(slot)
        return None if running is None else (running.where.namespace, running.where.name)

    def number(self, slot: int) -> int:
        """See `asked.Slots.number`."""
        running = self._slots.get(slot)
        return 0 if running is None else running.where.number

    async def unit(self, slot: int) -> Unit:
        """See `asked.Slots.unit`."""
        running = self._slots.get(slot)
        if running is None:
            raise errors.NotFound("functions", f"nothing is loaded in slot {slot}")
        if running.unit is None:
            running.unit = await self._units(running.where)
        return running.unit

    def _keep(self, running: Running) -> Running:
        self.used = running.used
        self.running[running.where.key] = self._slots[running.slot] = running
        while len(self._slots) > len(self.running) + _REMEMBERED:
            oldest = next(slot for slot, one in self._slots.items() if not self._has(one))
            del self._slots[oldest]
        return running

    def _has(self, running: Running) -> bool:
        return self.running.get(running.where.key) is running


def _forget(running: Running) -> None:
    running.unit = None
