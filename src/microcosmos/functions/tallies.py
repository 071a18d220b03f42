"""Tallies: how much of each quota is used in the period that it is, added up as it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from microcosmos.base.clock import Clock
from microcosmos.monitor.ledger import Added
from microcosmos.monitor.ledger.ledger import Ledger

from .quotas import Quota, Subject, begin_of, end_of, subject_of

_TRIES = 20


class Tally:
    """What is used of one quota.

    Attributes:
        quota: which.
        begin: when its period began, in seconds since the epoch.
        end: when that is over.
        used: in it, in the quota's unit.

    Args:
        quota: which.
        at: the time.
    """

    __slots__ = ("begin", "end", "quota", "used")

    def __init__(self, quota: Quota, at: float) -> None:
        self.quota = quota
        self.begin = begin_of(quota.period, at)
        self.end = end_of(quota.period, at)
        self.used: int | float = 0

    def turn(self, at: float) -> bool:
        """Begin anew, if the period is over; whether it is."""
        if at < self.end:
            return False
        self.begin, self.end = begin_of(self.quota.period, at), end_of(self.quota.period, at)
        self.used = 0
        return True

    @property
    def part(self) -> float:
        """The part that is used."""
        return self.used / self.quota.most

    @property
    def spent(self) -> bool:
        """Whether all of it is used."""
        return self.used >= self.quota.most


class Tallies:
    """The tallies of all quotas, by their subjects.

    Args:
        ledger: counts.
        clock: tells the period.
        changed: is told when one has reached something that somebody waits for.
    """

    def __init__(self, ledger: Ledger, clock: Clock, changed: Callable[[], None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._changed = changed
        self._tallies: dict[Subject, list[Tally]] = {}
        # How often something was added to what is being looked up.
        self._added: dict[Subject, int] = {}
        ledger.listen(self._take)

    def __iter__(self) -> Iterator[tuple[Subject, Tally]]:
        """All of them, in their periods of now."""
        now = self._clock.time()
        for subject, tallies in [*self._tallies.items()]:
            for tally in tallies:
                tally.turn(now)
                yield subject, tally

    def of(self, subject: Subject) -> list[Tally]:
        """Those of a subject, in their periods of now."""
        now = self._clock.time()
        tallies = self._tallies.get(subject, [])
        for tally in tallies:
            tally.turn(now)
        return tallies

    async def put(self, subject: Subject, quotas: Sequence[Quota]) -> None:
        """These are the quotas of a subject from now on; what is used is looked up."""
        if not quotas:
            self._tallies.pop(subject, None)
            return
        tallies: list[Tally] = []
        for _ in range(_TRIES):
            seen = self._added[subject] = 0
            tallies = [Tally(quota, self._clock.time()) for quota in quotas]
            for tally in tallies:
                counts = await self._ledger.used(subject.line, tally.begin)
                tally.used = tally.quota.used(counts)
            # What is added meanwhile may be in what was read, or not.
            if self._added.get(subject) == seen:
                break
        self._added.pop(subject, None)
        self._tallies[subject] = tallies

    def drop(self, subject: Subject) -> None:
        """A subject is no more."""
        self._tallies.pop(subject, None)

    def _take(self, all_added: Sequence[Added]) -> None:
        """Something was counted."""
        reached = False
        for added in all_added:
            subject = subject_of(added.line)
            if subject is None:
                continue
            if subject in self._added:
                self._added[subject] += 1
            for tally in self._tallies.get(subject, ()):
                tally.turn(added.at)
                before, tally.used = tally.part, tally.used + tally.quota.used(added.counts)
                marks = (*tally.quota.soft, 1.0)
                reached = reached or any(before < mark <= tally.part for mark in marks)
        if reached:
            self._changed()
