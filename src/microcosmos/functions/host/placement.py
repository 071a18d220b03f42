"""Placement: which worker runs what. It loads, drops and spreads versions.

A version is loaded where it is first asked for, and stays until nobody has used it for a while or
memory is short. All functions of one owner and engine share a worker, but those whose level is a
process of their own, and those that have misbehaved of late.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.tasks import apart
from microcosmos.functions import wire
from microcosmos.functions.interface import Live, Unit
from microcosmos.functions.lines import Lines, Lost
from microcosmos.functions.workers import Place, Where
from microcosmos.functions.zygote.client import ZygoteClient

from .asked import Asking
from .faults import Blame, Fault
from .fleet import Fleet
from .owners import CHECKER, HEAPS, Group, Owner, owner_for, owner_of
from .places import Places
from .quarantine import Quarantine
from .upkeep import Upkeep, quietly
from .worker import Running, Units, Worker

log = logging.getLogger("microcosmos.functions")

MEMORY = 512 * 1024 * 1024
"""Bytes that the versions of all workers may take before those are dropped that were used the
longest time ago."""

FAILED_FOR = 1.0
"""Seconds for which a version that could not be loaded is not loaded again."""

_CHECKERS = {"javascript": "quickjs", "typescript": "deno", "python": "monty"}
_CHECK_LIMIT = 10.0

LOAD = "functions.load"
"""The id of the error of code that fails when it is loaded."""

QUARANTINE = "functions.quarantine"
"""The id of the error of a version that is refused for what it did."""

Tell = Callable[[Unit, str, str, str], None]
"""Writes into the log of a function: the level, the text, a trace."""


class Placement:
    """Decides which worker runs what.

    Attributes:
        suspect: see `workers.Workers.suspect`.

    Args:
        zygote: makes workers.
        lines: lead to them.
        units: gives all that is needed to run a version.
        asking: answers what workers ask; without it nobody does.
        tell: writes into the log of a function: the level, the text, a trace.
        blame: gives a version that was the end of its worker a strike; without it there are none.
        memory: bytes that all versions may take.
        cores: workers that one owner may have at most, for each engine.
        heaps: bytes of the heaps that the functions of an owner share, by engine.
    """

    def __init__(
        self,
        zygote: ZygoteClient,
        lines: Lines,
        units: Units,
        *,
        asking: Asking | None = None,
        tell: Tell | None = None,
        blame: Blame | None = None,
        memory: int = MEMORY,
        cores: int = 0,
        heaps: Mapping[str, int] = HEAPS,
    ) -> None:
        self._fleet = Fleet(zygote, lines, units, asking, heaps, self._gone, self._blamed)
        self._units = units
        self._tell = tell
        self._quarantine = None if blame is None else Quarantine(blame)
        self._memory = memory
        self._places = Places()
        self._upkeep = Upkeep(
            self._fleet, units, self._load_into, self._drop, self._make_room, cores
        )
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[errors.Error, float]] = {}
        self.suspect = self._fleet.suspect

    async def __aenter__(self) -> Placement:
        await self._fleet.open()
        for worker in self.workers:
            for running in worker.running.values():
                self._places.add(worker, running.where)
        self._fleet.spawn(self._upkeep.keep(), "upkeep")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._fleet.close()
        loading = [*self._loading.values()]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        if self._quarantine is not None:
            await self._quarantine.close()

    # What the host is asked.

    async def place(self, where: Where) -> list[Place]:
        """See `workers.Workers.place`."""
        for place in where.missing:
            self._miss(where, place)
        if where.missing:
            where = msgspec.structs.replace(where, missing=())
        while not (spots := self._places.of(where.key)):
            loading = self._loading.get(where.key)
            if loading is None:
                loading = self._loading[where.key] = apart(self._load(where), f"load {where.name}")
                loading.add_done_callback(lambda task: self._loaded(where.key, task))
            await asyncio.shield(loading)
        now = time.monotonic()
        for _, running in spots:
            running.used = now
        return [worker.place(running) for worker, running in spots]

    async def check(self, source: wire.Source) -> wire.Checked:
        """See `workers.Workers.check`."""
        engine = _CHECKERS.get(source.language)
        if engine is None:
            detail = f"language: {source.language!r:.80} is none that functions are written in"
            raise errors.BadRequest("functions", detail)
        body = wire.encode(source)
        for attempt in (1, 2):
            worker = await self._fleet.group(Owner("", CHECKER, engine)).any()
            worker.used = time.monotonic()
            try:
                answer = await worker.line.ask(wire.CHECK, body, _CHECK_LIMIT)
                return codec.decode(answer, wire.Checked, id="functions")
            except Lost:
                if attempt == 2:
                    return wire.Checked(
                        message="it is nested too deeply, or takes too much memory, to be read"
                    )
        raise AssertionError

    def noted(self, worker: str, notes: wire.Notes) -> None:
        """A worker has told what its versions take, and that they were used."""
        known = self._fleet.workers.get(int(worker.partition("-")[0]))
        if known is not None and known.id == worker:
            known.noted(notes)

    def changed(self, namespace: str, name: str, live: Live | None) -> None:
        """A function has changed or is no more.

        What takes the place of a version that is warm is loaded at once; the old one is dropped
        as soon as nobody uses it.
        """
        shares = {} if live is None else {share.key: share for share in live.shares}
        before = self._places.keys(namespace, name)
        for key in before:
            for _, running in self._places.of(key):
                running.old = key not in shares
        if before:
            for key, share in shares.items():
                if key not in before:
                    where = Where(namespace, name, share.number, key)
                    self._fleet.spawn(self._prewarm(where), f"prewarm {name}")

    @property
    def workers(self) -> list[Worker]:
        """Those that live."""
        return [*self._fleet.workers.values()]

    # Loading.

    async def _load(self, where: Where) -> None:
        failed = self._failed.get(where.key)
        if failed is not None and failed[1] > time.monotonic():
            raise failed[0].with_traceback(None)
        try:
            group, worker, unit = await self._load_somewhere(where)
        except Lost:
            # Perhaps it was ended because of another version.
            group, worker, unit = await self._load_somewhere(where)
        for other in group.usable:
            if other is not worker and other.has(where.name):
                # What it takes the place of was needed there too.
                self._fleet.spawn(quietly(self._load_into(other, where, unit)), "spread")
        self._make_room(keep=where.key)

    async def _load_somewhere(self, where: Where) -> tuple[Group, Worker, Unit]:
        if self._quarantine is not None:
            await self._quarantine.settled(where)
        unit = await self._units(where)
        if unit.key != where.key:
            # A secret has changed since: what runs by the old name has the new values too.
            unit = msgspec.structs.replace(unit, key=where.key)
        group = self._fleet.group(owner_for(unit))
        worker = await group.any()
        await self._load_into(worker, where, unit)
        return group, worker, unit

    async def _load_into(self, worker: Worker, where: Where, unit: Unit) -> None:
        try:
            await worker.load_unit(where, unit)
        except errors.InternalServerError as error:
            if error.id != LOAD:
                raise
            # What the engine says may be private: whoever calls does not hear it.
            if self._tell is not None:
                self._tell(unit, "error", error.detail, "")
            detail = f"function {unit.name} could not be loaded; its log says why"
            raise errors.InternalServerError(LOAD, detail) from None
        self._places.add(worker, where)

    def _loaded(self, key: str, task: asyncio.Task[None]) -> None:
        del self._loading[key]
        if task.cancelled():
            return
        error = task.exception()
        now = time.monotonic()
        if isinstance(error, errors.Error) and error.id in _LASTING:
            self._failed = {k: failed for k, failed in self._failed.items() if failed[1] > now}
            lasts = min(error.retry_after or FAILED_FOR, FAILED_FOR)
            self._failed[key] = (error, now + lasts)

    async def _prewarm(self, where: Where) -> None:
        try:
            await self.place(where)
        except errors.Error as error:
            log.info("%s v%d is not warm: %s", where.name, where.number, error.detail)

    # Dropping.

    def _occupied(self) -> int:
        return sum(worker.memory for worker in self._fleet.workers.values())

    def _make_room(self, keep: str = "") -> None:
        """If memory is short, drop what was used the longest time ago, and a few more."""
        occupied = self._occupied()
        if occupied <= self._memory:
            return
        excess = occupied - int(self._memory * 0.9)
        everything = sorted(
            (
                (running.used, worker, running)
                for worker in self._fleet.workers.values()
                for running in worker.running.values()
                if running.where.key != keep
            ),
            key=lambda one: one[0],
        )
        for _, worker, running in everything:
            if excess <= 0:
                break
            excess -= running.heap
            self._drop(worker, running)

    def _drop(self, worker: Worker, running: Running) -> None:
        key, where = running.where.key, running.where
        self._places.remove(worker, where)
        self._fleet.spawn(quietly(worker.drop(key)), "drop")

    def _miss(self, where: Where, place: Place) -> None:
        """A worker does not know a slot, which it was thought to have."""
        worker = self._fleet.workers.get(place.pid)
        running = None if worker is None else worker.running.get(where.key)
        if worker is not None and running is not None and running.slot == place.slot:
            del worker.running[where.key]
            self._places.remove(worker, where)

    def _gone(self, worker: Worker) -> None:
        """A worker has ended, with all that ran in it."""
        self._places.gone(worker)

    # Setting apart.

    def _blamed(self, faults: Sequence[Fault]) -> bool:
        """Versions were the end of a worker; whether anything follows from that for them."""
        if self._quarantine is None:
            return False
        self._quarantine.take(faults)
        for fault in faults:
            where = fault.where
            log.warning("%s v%d was %s", where.name, where.number, fault.reason)
            for worker in self.workers:
                if not owner_of(worker.whom, worker.kind).apart:
                    for running in [*worker.running.values()]:
                        if _same(running.where, where):
                            self._drop(worker, running)
        return True


_LASTING = frozenset((LOAD, QUARANTINE, "functions.limit.cpu", "functions.limit.memory"))
"""Ids of errors that a version will have again when it is loaded again."""


def _same(one: Where, other: Where) -> bool:
    """Whether two are the same version, whatever values it runs with."""
    return (one.namespace, one.name, one.number) == (other.namespace, other.name, other.number)
