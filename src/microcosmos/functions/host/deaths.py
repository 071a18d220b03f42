"""The ends of workers, each looked into until it is known whose fault it was.

A worker forked by the zygote leaves behind which version ran: that one is guilty. Of one that is
a program of its own it is only known what was under way in it, as its callers tell: a version that
was alone is guilty, several are suspects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from microcosmos.base.tasks import apart
from microcosmos.functions.page import LOADING
from microcosmos.functions.workers import Verdict, Where
from microcosmos.functions.zygote.messages import Exit

from . import faults
from .faults import Fault, Hang
from .worker import Worker

EXIT = 5.0
"""Seconds that a worker whose line has gone has to end, before it is taken to live."""

REPORTS = 0.05
"""Seconds for which callers are waited for that tell what was under way."""

KEPT = 5.0
"""Seconds for which it is known why a worker has ended."""

RECENT = 2.0
"""Seconds: what ran within them may have been the end of a worker in which nothing was under
way."""

Found = Callable[[Worker, Sequence[Fault]], None]
"""Is told whose fault it was that a worker has ended; nobody's if there are none."""


class Death:
    """The end of one worker.

    Attributes:
        worker: whose.
        hang: why it was killed, if it was for hanging.
        exit: how it ended; None if that was not its own doing.
        verdict: what is found.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.hang: Hang | None = None
        self.exit: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        self.verdict: asyncio.Task[Verdict]
        self._owed: dict[str, int] = {}

    def owes(self, owed: Mapping[str, int]) -> None:
        """Somebody tells how many answers it owed, by the keys of versions."""
        for key, count in owed.items():
            self._owed[key] = self._owed.get(key, 0) + count

    def ended(self, exit: Exit | None) -> None:
        """It has ended; None if that says nothing about what ran in it."""
        if not self.exit.done():
            self.exit.set_result(exit)

    async def faults(self) -> list[Fault]:
        """Whose fault it was."""
        await asyncio.wait((self.exit,), timeout=EXIT)
        exit = self.exit.result() if self.exit.done() else None
        if exit is None:
            return []
        certain = self.hang is not None or not faults.foreign(exit.code)
        if exit.running.known:
            named = [self._exactly(exit)]
        else:
            await asyncio.sleep(REPORTS)
            named = [self.worker.where(key) for key in self._owed]
            if not named and certain and exit.code:
                # Nothing was under way: it may have been left behind by what was.
                named, certain = [*self.worker.recent(RECENT)], False
        found = [one for one in named if one is not None]
        certain = certain and len(found) == 1
        return [self._fault(one, exit, len(found), certain=certain) for one in found]

    def _exactly(self, exit: Exit) -> Where | None:
        """The version that ran."""
        if exit.running.slot == LOADING:
            return self.worker.loading.get(exit.running.key)
        return self.worker.at(exit.running.slot)

    def _fault(self, where: Where, exit: Exit, many: int, *, certain: bool) -> Fault:
        worker, cpu = self.worker, 0.0
        if self.hang is not None:
            kind, reason = faults.of_hang(self.hang, exit.cpu)
            if certain:
                cpu = max(exit.cpu - self.hang.since, 0.0)
        else:
            kind, reason = faults.of_death(worker.kind, exit.code)
        if not certain:
            reason = faults.suspected(kind, exit.code, many)
        requests = self._owed.get(where.key, 0)
        unit = worker.unit_of(where.key)
        return Fault(where, unit, worker.id, kind, reason, not certain, requests, cpu)


class Deaths:
    """All ends of late.

    Args:
        found: is told whose fault each was.
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self._known: dict[int, Death] = {}

    def get(self, pid: int) -> Death | None:
        """The end of a worker, if it has ended of late."""
        return self._known.get(pid)

    def of(self, worker: Worker) -> Death:
        """The end of a worker, which is looked into from now on."""
        death = self._known.get(worker.pid)
        if death is None or death.worker is not worker:
            death = self._known[worker.pid] = Death(worker)
            death.verdict = apart(self._look(death), "death")
        return death

    def exited(self, exit: Exit) -> None:
        """The zygote tells of an end."""
        if (death := self._known.get(exit.pid)) is not None:
            death.ended(exit)

    def all_exited(self) -> None:
        """The zygote has ended, and took all along."""
        for death in self._known.values():
            death.ended(None)

    def close(self) -> None:
        """Look into nothing any more."""
        for death in self._known.values():
            death.verdict.cancel()

    async def _look(self, death: Death) -> Verdict:
        blamed = await death.faults()
        loop = asyncio.get_running_loop()
        loop.call_later(KEPT, self._forget, death)
        self._found(death.worker, blamed)
        return _verdict(blamed)

    def _forget(self, death: Death) -> None:
        if self._known.get(death.worker.pid) is death:
            del self._known[death.worker.pid]


def _verdict(blamed: Sequence[Fault]) -> Verdict:
    if not blamed:
        return Verdict(True)
    first = blamed[0]
    if len(blamed) > 1:
        return Verdict(True, reason=f"its worker ended, with {len(blamed)} functions at work in it")
    reason = "its worker ended because of another function of its owner"
    if first.suspected:
        # It may be run once more, where it harms nobody else.
        return Verdict(True, reason="its worker was killed")
    detail = f"the function was {first.reason}"
    return Verdict(True, first.where.key, f"functions.{first.kind}", detail, reason)
