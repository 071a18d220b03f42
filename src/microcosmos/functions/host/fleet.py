"""The workers that live: started when needed, met, retired, buried, and killed if they hang."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from microcosmos.base import errors
from microcosmos.base.tasks import apart
from microcosmos.functions import cpu
from microcosmos.functions.lines import Lines
from microcosmos.functions.workers import Suspicion, Verdict
from microcosmos.functions.zygote import messages
from microcosmos.functions.zygote.client import ZygoteClient

from .asked import Asking
from .deaths import EXIT, Deaths
from .faults import Fault
from .judging import hangs
from .owners import Group, Owner, owner_of
from .worker import Units, Worker

log = logging.getLogger("microcosmos.functions")

RETIRE_LIMIT = 30.0
"""Seconds that a worker which is to end has for what it has begun."""

# Seconds until the end of a worker that others have seen is seen here too.
_HEARD = 0.2

# Of the load of the last moment in that of late.
_WEIGHT = 0.5


class Fleet:
    """All workers of a host, by owner.

    Attributes:
        groups: of workers, by owner.
        workers: by process.

    Args:
        zygote: makes them.
        lines: lead to them.
        units: gives what versions need that they have been running.
        asking: answers what they ask; without it nobody does.
        heaps: bytes of the heaps that the functions of an owner share, by engine.
        gone: called with a worker that can no longer be used.
        blamed: called with the faults that a worker ended by; tells whether anything follows.
    """

    def __init__(
        self,
        zygote: ZygoteClient,
        lines: Lines,
        units: Units,
        asking: Asking | None,
        heaps: Mapping[str, int],
        gone: Callable[[Worker], None],
        blamed: Callable[[Sequence[Fault]], bool] = lambda _: False,
    ) -> None:
        self.groups: dict[Owner, Group] = {}
        self.workers: dict[int, Worker] = {}
        self._zygote = zygote
        self._lines = lines
        self._units = units
        self._asking = asking
        self._heaps = heaps
        self._gone = gone
        self._blamed = blamed
        self._deaths = Deaths(self._found)
        self._judging: dict[int, asyncio.Task[Verdict]] = {}
        self._owed: dict[int, dict[str, int]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sampled: dict[int, tuple[float, float]] = {}

    async def open(self) -> None:
        """Find the workers of the host before this one.

        Raises:
            errors.Unavailable: there is no zygote.
        """
        self._zygote.listen(self._exited, self._all_exited)
        self._lines.suspect = self.suspect
        made = await self._zygote.living()
        await asyncio.gather(*(self._adopt(one) for one in made))

    async def close(self) -> None:
        """Look after them no more. They live on: the next host finds them."""
        self.workers.clear()
        self._deaths.close()
        tasks = [*self._tasks, *self._judging.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def group(self, owner: Owner) -> Group:
        """The workers of an owner."""
        group = self.groups.get(owner)
        if group is None:
            group = self.groups[owner] = Group(owner, self._start)
        return group

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Do something beside, until it is done or the fleet is closed."""
        task = apart(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def retire(self, worker: Worker) -> None:
        """Let a worker end, when it has done what it has begun."""
        worker.retiring = True
        worker.line.retire()
        self.spawn(self._see_off(worker), "retire")

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        """See `workers.Workers.suspect`."""
        worker = self.workers.get(suspicion.pid)
        if worker is not None and suspicion.lost:
            # Its end may not have come to be known here.
            await asyncio.wait((worker.line.ended,), timeout=_HEARD)
        if suspicion.lost or worker is None:
            if (death := self._deaths.get(suspicion.pid)) is None:
                return Verdict(False)
            death.owes(suspicion.owed)
            return await asyncio.shield(death.verdict)
        owed = self._owed.setdefault(worker.pid, {})
        for key, count in suspicion.owed.items():
            owed[key] = owed.get(key, 0) + count
        judging = self._judging.get(worker.pid)
        if judging is None:
            judging = self._judging[worker.pid] = apart(self._judge(worker, suspicion), "judge")
            judging.add_done_callback(lambda _: self._judged(worker.pid))
        return await asyncio.shield(judging)

    def sample(self, now: float) -> None:
        """See how much of a processor each worker uses."""
        for worker in self.workers.values():
            try:
                used = cpu.used(worker.pid)
            except ProcessLookupError:
                continue
            before = self._sampled.get(worker.pid)
            self._sampled[worker.pid] = (now, used)
            if before is not None and now > before[0]:
                load = (used - before[1]) / (now - before[0])
                worker.load += _WEIGHT * (load - worker.load)

    def tidy(self) -> None:
        """Forget owners without workers."""
        for owner, group in [*self.groups.items()]:
            if not group.workers and not group.starting and group.rested:
                del self.groups[owner]

    # How they come.

    async def _start(self, owner: Owner) -> Worker:
        heap = owner.heap or self._heaps.get(owner.kind, 0)
        made = await self._zygote.start(owner.kind, owner.name, heap)
        try:
            return await self._meet(made)
        except errors.Error:
            await self._kill(made.pid)
            raise

    async def _meet(self, made: messages.Worker) -> Worker:
        """Be the host of a worker that lives."""
        line = await self._lines.line(made.socket, made.pid)
        worker = Worker(made, line, self._units)
        await worker.adopt(self._asking)
        self.workers[worker.pid] = worker
        line.ended.add_done_callback(lambda _: self._ended(worker))
        return worker

    async def _adopt(self, made: messages.Worker) -> None:
        try:
            worker = await self._meet(made)
        except errors.Error as error:
            log.warning("worker %d is ended: %s", made.pid, error.detail)
            await self._kill(made.pid)
            return
        self.group(owner_of(made.name, made.kind)).workers.append(worker)
        if not worker.line.usable:
            # The host before this one has let it end; what is under way there still asks.
            worker.retiring = True
            self.spawn(self._see_off(worker), "retire")

    # How they go.

    def _ended(self, worker: Worker) -> None:
        """The line to a worker is gone: whatever is left of it cannot be used."""
        if self.workers.get(worker.pid) is not worker:
            return
        del self.workers[worker.pid]
        self._sampled.pop(worker.pid, None)
        self._gone(worker)
        for group in self.groups.values():
            group.lost(worker)
        if not worker.retiring:
            log.warning("worker %d of %s has ended", worker.pid, worker.whom)
            self._deaths.of(worker)
        self.spawn(self._bury(worker), "bury")

    def _found(self, worker: Worker, faults: Sequence[Fault]) -> None:
        """It is known whose fault it was that a worker has ended."""
        owner = owner_of(worker.whom, worker.kind)
        follows = bool(faults) and self._blamed(faults)
        group = self.groups.get(owner)
        # Who shares a worker need not wait because of one that will not be there any more.
        if group is not None and not worker.retiring and (owner.apart or not follows):
            group.died(time.time() - worker.started)

    async def _bury(self, worker: Worker) -> None:
        """See that a worker without a line ends, in time for what it does after its answers."""
        if worker.retiring:
            await asyncio.sleep(RETIRE_LIMIT)
        elif (death := self._deaths.get(worker.pid)) is not None:
            await asyncio.wait((death.exit,), timeout=EXIT)
            # What it is killed for here is nobody's fault.
            death.ended(None)
        # By then its number may be that of another one.
        if worker.pid not in self.workers:
            await self._kill(worker.pid)

    def _exited(self, exit: messages.Exit) -> None:
        worker = self.workers.get(exit.pid)
        if worker is not None:
            worker.line.abort()
            self._ended(worker)
        self._deaths.exited(exit)

    def _all_exited(self) -> None:
        """The zygote has ended, and its children with it."""
        for worker in [*self.workers.values()]:
            worker.line.abort()
            self._ended(worker)
        self._deaths.all_exited()

    async def _kill(self, pid: int) -> None:
        with contextlib.suppress(errors.Unavailable):
            await self._zygote.kill(pid)

    async def _see_off(self, worker: Worker) -> None:
        await asyncio.wait((worker.line.ended,), timeout=RETIRE_LIMIT)
        if not worker.line.ended.done():
            log.warning("worker %d is killed: it would not end", worker.pid)
            await self._kill(worker.pid)

    async def _judge(self, worker: Worker, suspicion: Suspicion) -> Verdict:
        owed = self._owed[worker.pid]
        hang = await hangs(worker, suspicion.burned, suspicion.since, owed, self._zygote.look)
        if hang is None:
            return Verdict(False)
        log.warning("worker %d of %s hangs, and is killed", worker.pid, worker.whom)
        death = self._deaths.of(worker)
        death.hang = hang
        death.owes(owed)
        await self._kill(worker.pid)
        return await asyncio.shield(death.verdict)

    def _judged(self, pid: int) -> None:
        self._judging.pop(pid, None)
        self._owed.pop(pid, None)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
