"""Groups in memory: who is given which event, when, and for how often already."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from . import checks
from .interface import (
    MAX_PENDING,
    PARTITIONS,
    Delivery,
    Event,
    GroupSpec,
    GroupState,
    Start,
    partition,
)


class Stored(NamedTuple):
    """An event in the log.

    Attributes:
        event: the event.
        at: when it was stored, in seconds since the epoch.
        until: when it is forgotten.
        only: the one group that it is for.
    """

    event: Event
    at: float
    until: float
    only: str = ""


class Shelf(Protocol):
    """The log, as groups need it."""

    clock: Clock

    def settle(self) -> float | None:
        """Do what is due by now.

        Returns:
            Seconds until there is more to do, or None.
        """

    def after(self, pattern: str, sequence: int) -> Iterator[Stored]:
        """Events of a topic or pattern with a larger sequence, in order."""

    def get(self, sequence: int) -> Stored | None:
        """An event that is still there."""

    def place(self, pattern: str, start: Start) -> int:
        """The sequence after which a group that starts there begins."""

    def bury(self, group: str, delivery: Delivery, reason: str) -> None:
        """Put an event among the dead letters."""


class _Given(NamedTuple):
    """An event that was given out: how often, and when it is given out again."""

    attempt: int
    again: float


class Cursor:
    """What nats-server calls a consumer: a place in the log, and what was given out since.

    Args:
        log: what it reads.
        pattern: of topics.
        part: of the keys, or None for all.
        after: the sequence that it begins after.
    """

    def __init__(self, log: Shelf, pattern: str, part: int | None, after: int) -> None:
        self._log = log
        self._pattern = pattern
        self._part = part
        self._after = after
        self._at_once = MAX_PENDING if part is None else 1
        self._again: list[tuple[float, int]] = []
        self.given: dict[int, _Given] = {}

    def take(self, limit: int, ack_wait: float) -> Iterator[tuple[Stored, int]]:
        """Events to work on, at most so many, each with its attempt."""
        now = self._log.clock.monotonic()
        taken = 0
        while taken < limit and self._again and self._again[0][0] <= now:
            again, sequence = heapq.heappop(self._again)
            given = self.given.get(sequence)
            if given is None or given.again != again:
                continue
            stored = self._log.get(sequence)
            if stored is None:
                del self.given[sequence]
                continue
            self._give(sequence, given.attempt + 1, now + ack_wait)
            taken += 1
            yield stored, given.attempt + 1
        if taken == limit or len(self.given) >= self._at_once:
            return
        for stored in self._unread():
            self._after = stored.event.sequence
            self._give(self._after, 1, now + ack_wait)
            taken += 1
            yield stored, 1
            if taken == limit or len(self.given) >= self._at_once:
                return

    def _unread(self) -> Iterator[Stored]:
        for stored in self._log.after(self._pattern, self._after):
            if self._part is None or partition(stored.event.key) == self._part:
                yield stored

    def _give(self, sequence: int, attempt: int, again: float) -> None:
        self.given[sequence] = _Given(attempt, again)
        heapq.heappush(self._again, (again, sequence))

    def done(self, sequence: int) -> None:
        """An event is done with, whichever attempt it was."""
        self.given.pop(sequence, None)

    def again(self, delivery: Delivery, seconds: float) -> None:
        """Give an event out again after so many seconds, unless it was given to another already."""
        sequence = delivery.event.sequence
        given = self.given.get(sequence)
        if given is not None and given.attempt == delivery.attempt:
            self._give(sequence, given.attempt, self._log.clock.monotonic() + seconds)

    def wait(self) -> float | None:
        """Seconds until there is something to give out again, or None."""
        now = self._log.clock.monotonic()
        while self._again:
            again, sequence = self._again[0]
            given = self.given.get(sequence)
            if given is not None and given.again == again:
                return max(0.0, again - now)
            heapq.heappop(self._again)
        return None

    def lag(self) -> int:
        """Events that were never given out."""
        return sum(1 for _ in self._unread())


class GroupOfMembers:
    """A group, whoever its members are.

    Attributes:
        spec: what it is.
        gone: it was removed.

    Args:
        log: what it works off.
        spec: what it is to be.
    """

    def __init__(self, log: Shelf, spec: GroupSpec) -> None:
        self.spec = spec
        self.gone = False
        self._log = log
        self._waiting: set[asyncio.Future[None]] = set()
        self._pulls = 0
        self._life = 0
        self._cursors: list[Cursor] = []
        self.begin(spec.start)

    def begin(self, start: Start) -> None:
        """Go on from somewhere; what was given out before concerns nobody any more."""
        after = self._log.place(self.spec.topic, start)
        parts = range(PARTITIONS) if self.spec.ordered else (None,)
        self._cursors = [Cursor(self._log, self.spec.topic, part, after) for part in parts]
        self._life += 1
        self.wake()

    def end(self) -> None:
        """Be removed: members are told."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Let members look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def pull(self, limit: int, ack_wait: float) -> list[Delivery]:
        """See `interface.Group.pull`."""
        self._pulls += 1
        try:
            # As a network would, so that a busy member leaves others their turn.
            await asyncio.sleep(0)
            while True:
                later = self._log.settle()
                if self.gone:
                    raise errors.NotFound(
                        "events", f"group {self.spec.name} of {self.spec.topic} was deleted"
                    )
                if found := self._take(limit, ack_wait):
                    return found
                times = [cursor.wait() for cursor in self._cursors]
                await self._changed(
                    min((one for one in [later, *times] if one is not None), default=None)
                )
        finally:
            self._pulls -= 1

    def _take(self, limit: int, ack_wait: float) -> list[Delivery]:
        taken = itertools.islice(
            (
                Delivery(stored.event, attempt, f"{self._life}", stored.only)
                for cursor in self._cursors
                for stored, attempt in cursor.take(limit, ack_wait)
            ),
            limit,
        )
        return list(taken)

    async def _changed(self, seconds: float | None) -> None:
        """Wait until something has changed, at most so long."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        sleeping = None
        try:
            if seconds is None:
                await waiting
                return
            sleeping = asyncio.ensure_future(self._log.clock.sleep(seconds))
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(waiting)
            if sleeping is not None:
                sleeping.cancel()

    def cursor(self, delivery: Delivery) -> Cursor | None:
        """The one that gave an event out; None when the group has begun anew since."""
        if delivery.token != str(self._life):
            return None
        return self._cursors[partition(delivery.event.key) if self.spec.ordered else 0]

    def state(self) -> GroupState:
        """How far it is."""
        return GroupState(
            self.spec.name,
            self.spec.topic,
            self.spec.ordered,
            sum(cursor.lag() for cursor in self._cursors),
            sum(len(cursor.given) for cursor in self._cursors),
            self._pulls,
        )


class MemoryGroup:
    """A member of a group; see `interface.Group`."""

    def __init__(self, log: Shelf, group: GroupOfMembers, spec: GroupSpec) -> None:
        self._log = log
        self._group = group
        self._spec = spec

    @property
    def spec(self) -> GroupSpec:
        return self._spec

    async def pull(self, limit: int) -> Sequence[Delivery]:
        if limit < 1:
            raise errors.BadRequest("events", f"limit is at least 1, not {limit}")
        return await self._group.pull(limit, self._spec.ack_wait)

    async def ack(self, delivery: Delivery) -> None:
        self._log.settle()
        if cursor := self._group.cursor(delivery):
            cursor.done(delivery.event.sequence)
            self._group.wake()

    async def ack_sync(self, delivery: Delivery) -> None:
        await self.ack(delivery)

    async def nack(self, delivery: Delivery, delay: float = 0) -> None:
        checks.check_delay(delay)
        if cursor := self._group.cursor(delivery):
            cursor.again(delivery, delay)
            self._group.wake()

    async def working(self, delivery: Delivery) -> None:
        if cursor := self._group.cursor(delivery):
            cursor.again(delivery, self._spec.ack_wait)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        self._log.bury(self._spec.name, delivery, checks.one_line(reason))
        await self.ack(delivery)
