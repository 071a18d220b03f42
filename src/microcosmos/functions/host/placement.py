"""Placement: which worker runs what. It loads, drops, starts, spreads, retires and kills.

A version is loaded where it is first asked for, and stays until nobody has used it for a while or
memory is short. All functions of one owner and engine share a worker; an owner that keeps a
processor busy gets another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.tasks import apart
from microcosmos.functions import wire
from microcosmos.functions.interface import Live, Unit
from microcosmos.functions.lines import Lines, Lost
from microcosmos.functions.workers import Place, Where
from microcosmos.functions.zygote.client import ZygoteClient

from .asked import Asking
from .fleet import HEAPS, Fleet
from .owners import Group, Owner, owner_for
from .worker import Running, Units, Worker

log = logging.getLogger("microcosmos.functions")

IDLE = 300.0
"""Seconds after which a version that nobody uses is dropped."""

OLD_IDLE = 5.0
"""The same for one whose requests go to another version by now."""

EMPTY_IDLE = 30.0
"""Seconds after which a worker ends that has nothing loaded."""

MEMORY = 512 * 1024 * 1024
"""Bytes that the versions of all workers may take before those are dropped that were used the
longest time ago."""

RECYCLE = 0.75
"""Part of such a heap that is in use when its worker is replaced by a fresh one."""

RECYCLE_EVERY = 30.0
"""Seconds that a worker lives at least before that: one whose functions need as much anyway is
left alone until its engine ends it."""

BUSY = 0.7
"""Part of a processor that a worker uses which is busy."""

BUSY_FOR = 1.0
"""Seconds after which an owner whose workers are all busy gets another one."""

CALM = 0.3
"""Part of a processor below which an owner does not need its last worker."""

CALM_FOR = 60.0
"""Seconds after which that ends."""

FAILED_FOR = 1.0
"""Seconds for which a version that could not be loaded is not loaded again."""

SWEEP = 0.5
"""Seconds between two looks at all workers."""

CHECKER = "$check"
"""The account whose workers look at sources that are not deployed yet."""

_CHECKERS = {"javascript": "quickjs", "typescript": "deno", "python": "monty"}
_CHECK_LIMIT = 10.0

LOAD = "functions.load"
"""The id of the error of code that fails when it is loaded."""

Tell = Callable[[Unit, str, str, str], None]
"""Writes into the log of a function: the level, the text, a trace."""

_RECENT = 30.0


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
        memory: int = MEMORY,
        cores: int = 0,
        heaps: Mapping[str, int] = HEAPS,
    ) -> None:
        self._fleet = Fleet(zygote, lines, units, asking, heaps, self._gone)
        self._units = units
        self._tell = tell
        self._memory = memory
        self._cores = cores or _cores()
        # Where each version runs, the oldest place first.
        self._places: dict[str, list[Worker]] = {}
        # The versions that run of each function.
        self._names: dict[tuple[str, str], set[str]] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[errors.Error, float]] = {}
        self.suspect = self._fleet.suspect

    async def __aenter__(self) -> Placement:
        await self._fleet.open()
        for worker in self.workers:
            for running in worker.running.values():
                self._running(worker, running.where)
        self._fleet.spawn(self._sweep(), "sweep")
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

    # What the host is asked.

    async def place(self, where: Where) -> list[Place]:
        """See `workers.Workers.place`."""
        for place in where.missing:
            self._miss(where, place)
        if where.missing:
            where = Where(where.namespace, where.name, where.number, where.key)
        while not (spots := self._spots(where.key)):
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
        before = self._names.get((namespace, name), set())
        for key in [*before]:
            for _, running in self._spots(key):
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

    def _spots(self, key: str) -> list[tuple[Worker, Running]]:
        """Where a version runs, and new requests may go."""
        return [
            (worker, worker.running[key])
            for worker in self._places.get(key, ())
            if worker.usable and key in worker.running
        ]

    async def _load(self, where: Where) -> None:
        failed = self._failed.get(where.key)
        if failed is not None and failed[1] > time.monotonic():
            raise failed[0].with_traceback(None)
        unit = await self._units(where)
        if unit.key != where.key:
            # A secret has changed since: what runs by the old name has the new values too.
            unit = msgspec.structs.replace(unit, key=where.key)
        group = self._fleet.group(owner_for(unit))
        worker = await self._load_somewhere(group, where, unit)
        for other in group.usable:
            if other is not worker and other.has(where.name):
                # What it takes the place of was needed there too.
                self._fleet.spawn(_quietly(self._load_into(other, where, unit)), "spread")
        if self._occupied() > self._memory:
            self._make_room(keep=where.key)

    async def _load_somewhere(self, group: Group, where: Where, unit: Unit) -> Worker:
        worker = await group.any()
        try:
            await self._load_into(worker, where, unit)
        except Lost:
            # Perhaps it was ended because of another version.
            worker = await group.any()
            await self._load_into(worker, where, unit)
        return worker

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
        self._running(worker, where)

    def _running(self, worker: Worker, where: Where) -> None:
        places = self._places.setdefault(where.key, [])
        if worker not in places:
            places.append(worker)
        self._names.setdefault((where.namespace, where.name), set()).add(where.key)

    def _loaded(self, key: str, task: asyncio.Task[None]) -> None:
        del self._loading[key]
        if task.cancelled():
            return
        error = task.exception()
        now = time.monotonic()
        if isinstance(error, errors.Error) and error.id in _LASTING:
            self._failed = {k: failed for k, failed in self._failed.items() if failed[1] > now}
            self._failed[key] = (error, now + FAILED_FOR)

    async def _prewarm(self, where: Where) -> None:
        try:
            await self.place(where)
        except errors.Error as error:
            log.info("%s v%d is not warm: %s", where.name, where.number, error.detail)

    # Dropping.

    def _occupied(self) -> int:
        return sum(worker.memory for worker in self._fleet.workers.values())

    def _make_room(self, keep: str = "") -> None:
        """Drop what was used the longest time ago, until there is room for a few more."""
        excess = self._occupied() - int(self._memory * 0.9)
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
        self._forget(worker, where)
        self._fleet.spawn(_quietly(worker.drop(key)), "drop")

    def _forget(self, worker: Worker, where: Where) -> None:
        """A version is not in a worker any more."""
        places = [one for one in self._places.get(where.key, ()) if one is not worker]
        if places:
            self._places[where.key] = places
            return
        self._places.pop(where.key, None)
        name = (where.namespace, where.name)
        keys = self._names.get(name)
        if keys is not None:
            keys.discard(where.key)
            if not keys:
                del self._names[name]

    def _miss(self, where: Where, place: Place) -> None:
        """A worker does not know a slot, which it was thought to have."""
        worker = self._fleet.workers.get(place.pid)
        running = None if worker is None else worker.running.get(where.key)
        if worker is not None and running is not None and running.slot == place.slot:
            del worker.running[where.key]
            self._forget(worker, where)

    def _gone(self, worker: Worker) -> None:
        """A worker has ended, with all that ran in it."""
        for running in worker.running.values():
            self._forget(worker, running.where)

    # What is looked at again and again.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                self._look(time.monotonic())
            except Exception:
                log.exception("a look at the workers failed")

    def _look(self, now: float) -> None:
        self._fleet.sample(now)
        for worker in self.workers:
            for running in [*worker.running.values()]:
                if now - running.used > (OLD_IDLE if running.old else IDLE):
                    self._drop(worker, running)
        if self._occupied() > self._memory:
            self._make_room()
        for group in self._fleet.groups.values():
            self._look_at(group, now)
        self._fleet.tidy()

    def _look_at(self, group: Group, now: float) -> None:
        usable = group.usable
        for worker in usable:
            if not worker.running and now - worker.used > EMPTY_IDLE:
                self._fleet.retire(worker)
            elif self._full(worker):
                self._fleet.spawn(self._recycle(group, worker), "recycle")
        if not usable or group.owner.account == CHECKER:
            return
        by_load = sorted(usable, key=lambda worker: worker.load)
        calmest, busiest = by_load[0], by_load[-1]
        group.hot = group.hot + SWEEP if busiest.load >= BUSY else 0.0
        group.calm = group.calm + SWEEP if sum(one.load for one in usable) < CALM else 0.0
        if group.hot >= BUSY_FOR and not group.starting:
            group.hot = 0.0
            if calmest.load < BUSY:
                self._fleet.spawn(_quietly(self._copy(busiest, calmest)), "spread")
            elif len(usable) < self._cores:
                self._fleet.spawn(self._spread(group, busiest), "spread")
        elif group.calm >= CALM_FOR and len(usable) > 1:
            group.calm = 0.0
            self._fleet.retire(usable[-1])

    def _full(self, worker: Worker) -> bool:
        """Whether the one heap of a worker is, or is about to be."""
        if not worker.heap or time.time() - worker.started < RECYCLE_EVERY:
            return False
        return worker.memory > RECYCLE * worker.heap

    async def _spread(self, group: Group, busy: Worker) -> None:
        """Give an owner one more worker, that runs what has been used of late."""
        with contextlib.suppress(errors.Error):
            await self._copy(busy, await group.another())

    async def _recycle(self, group: Group, worker: Worker) -> None:
        """Put a fresh worker in the place of one whose heap is about to be full."""
        if worker.retiring:
            return
        worker.retiring = True
        log.info("worker %d of %s is replaced: its heap is full", worker.pid, worker.whom)
        try:
            await self._copy(worker, await group.another())
        except errors.Error as error:
            worker.retiring = False
            log.warning("worker %d stays: %s", worker.pid, error.detail)
            return
        self._fleet.retire(worker)

    async def _copy(self, old: Worker, new: Worker) -> None:
        since = time.monotonic() - _RECENT
        for running in [*old.running.values()]:
            if running.used >= since and running.where.key not in new.running:
                unit = await old.unit(running.slot)
                await self._load_into(new, running.where, unit)


_LASTING = frozenset((LOAD, "functions.limit.cpu", "functions.limit.memory"))
"""Ids of errors that a version will have again when it is loaded again."""


def _cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def _quietly(work: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(errors.Error):
        await work
