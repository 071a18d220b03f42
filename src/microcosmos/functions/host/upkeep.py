"""The upkeep of workers: what is looked at again and again, and what follows from it.

Versions that nobody uses are dropped, workers without any end, owners that are busy get more, a
heap that is full is left for a fresh one, and a version that was set apart goes back to the others
when its strikes are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable

import msgspec

from microcosmos.base import errors
from microcosmos.functions.interface import Unit
from microcosmos.functions.workers import Where

from .fleet import Fleet
from .owners import CHECKER, Group, owner_for, owner_of
from .worker import Running, Units, Worker

log = logging.getLogger("microcosmos.functions")

IDLE = 300.0
"""Seconds after which a version that nobody uses is dropped."""

OLD_IDLE = 5.0
"""The same for one whose requests go to another version by now."""

EMPTY_IDLE = 30.0
"""Seconds after which a worker ends that has nothing loaded."""

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

RECONSIDER = 5.0
"""Seconds between two looks whether the strikes of a version that was set apart are forgotten."""

SWEEP = 0.5
"""Seconds between two looks at all workers."""

_RECENT = 30.0

Load = Callable[[Worker, Where, Unit], Awaitable[None]]
"""Loads a version into a worker; raises `errors.Error`."""

Drop = Callable[[Worker, Running], None]
"""Drops a version from a worker."""


class Upkeep:
    """Looks after workers.

    Args:
        fleet: the workers.
        units: gives all that is needed to run a version.
        load: loads one.
        drop: drops one.
        make_room: called at each look.
        cores: workers that one owner may have at most, for each kind.
    """

    def __init__(
        self,
        fleet: Fleet,
        units: Units,
        load: Load,
        drop: Drop,
        make_room: Callable[[], None],
        cores: int,
    ) -> None:
        self._fleet = fleet
        self._units = units
        self._load = load
        self._drop = drop
        self._make_room = make_room
        self._cores = cores or _cores()
        self._reconsidered = time.monotonic()
        self._reconsidering: set[str] = set()

    async def keep(self) -> None:
        """Look at all workers, for ever."""
        while True:
            await asyncio.sleep(SWEEP)
            try:
                self._look(time.monotonic())
            except Exception:
                log.exception("a look at the workers failed")

    def _look(self, now: float) -> None:
        self._fleet.sample(now)
        for worker in [*self._fleet.workers.values()]:
            for running in [*worker.running.values()]:
                if now - running.used > (OLD_IDLE if running.old else IDLE):
                    self._drop(worker, running)
        self._make_room()
        if now - self._reconsidered >= RECONSIDER:
            self._reconsidered = now
            self._reconsider()
        for group in self._fleet.groups.values():
            self._look_at(group, now)
        self._fleet.tidy()

    def _look_at(self, group: Group, now: float) -> None:
        usable = group.usable
        for worker in usable:
            if not worker.running and now - worker.used > EMPTY_IDLE:
                self._fleet.retire(worker)
            elif _full(worker):
                self._fleet.spawn(self._recycle(group, worker), "recycle")
        if not usable or group.owner.account == CHECKER:
            return
        by_load = sorted(usable, key=lambda worker: worker.load)
        calmest, busiest = by_load[0], by_load[-1]
        group.hot = group.hot + SWEEP if busiest.load >= BUSY else 0.0
        group.calm = group.calm + SWEEP if sum(one.load for one in usable) < CALM else 0.0
        if group.hot >= BUSY_FOR and not group.starting and not _struck(busiest):
            group.hot = 0.0
            if calmest.load < BUSY:
                self._fleet.spawn(quietly(self._copy(busiest, calmest)), "spread")
            elif len(usable) < self._cores:
                self._fleet.spawn(self._spread(group, busiest), "spread")
        elif group.calm >= CALM_FOR and len(usable) > 1:
            group.calm = 0.0
            self._fleet.retire(usable[-1])

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
                await self._load(new, running.where, unit)

    # What was set apart.

    def _reconsider(self) -> None:
        for worker in self._fleet.workers.values():
            if not owner_of(worker.whom, worker.kind).apart:
                continue
            for running in worker.running.values():
                key = running.where.key
                # One whose level it is to be apart has no strikes.
                if (running.unit is None or running.unit.strikes) and (
                    key not in self._reconsidering
                ):
                    self._reconsidering.add(key)
                    self._fleet.spawn(self._forgive(worker, running), "forgive")

    async def _forgive(self, worker: Worker, running: Running) -> None:
        """Let a version go back to the others, if what it did is forgotten."""
        try:
            unit = await self._units(running.where)
            unit = msgspec.structs.replace(unit, key=running.where.key)
            before = owner_of(worker.whom, worker.kind)
            if owner_for(unit) == before:
                running.unit = unit
            elif running.where.key in worker.running:
                new = await self._fleet.group(owner_for(unit)).any()
                await self._load(new, running.where, unit)
                self._drop(worker, running)
                log.info("%s v%d is not set apart any more", unit.name, unit.number)
        except errors.Error as error:
            log.debug("%s stays set apart: %s", running.where.name, error)
        finally:
            self._reconsidering.discard(running.where.key)


def _struck(worker: Worker) -> bool:
    """Whether what runs in a worker is set apart for what it did."""
    return any(one.unit is not None and one.unit.strikes for one in worker.running.values())


def _full(worker: Worker) -> bool:
    """Whether the one heap of a worker is, or is about to be."""
    if not worker.heap or time.time() - worker.started < RECYCLE_EVERY:
        return False
    return worker.memory > RECYCLE * worker.heap


async def quietly(work: Awaitable[object]) -> None:
    """Do something whose failure is of no consequence."""
    with contextlib.suppress(errors.Error):
        await work


def _cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
