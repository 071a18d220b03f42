"""Events in memory: for tests, and for what may be forgotten when the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.topics import check_pattern, check_topic, is_pattern, matches

from . import checks
from .interface import (
    DUPLICATE_WINDOW,
    DeadLetter,
    Delivery,
    Draft,
    Event,
    Group,
    GroupSpec,
    GroupState,
    Receipt,
    Schedule,
    Start,
    TopicState,
)
from .memory_groups import GroupOfMembers, MemoryGroup, Stored
from .schedule import check_schedule, repeats, upcoming

DURABILITY = "memory: gone when the process ends"
"""What an acknowledged event survives here."""


class _Topic:
    """What is known of a topic: the sequences of its events, in order."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.created = False
        self.ttl = 0.0


class _Planned(msgspec.Struct):
    """A schedule, and when it publishes next."""

    schedule: Schedule
    next: float


class MemoryLog:
    """See `interface.Log`: what the engine does, in this process alone.

    Args:
        clock: what TTLs, schedules and waiting go by.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._events: dict[int, Stored] = {}
        self._order: list[int] = []
        self._sequence = 0
        self._topics: dict[str, _Topic] = {}
        self._expiring: list[tuple[float, int]] = []
        self._ids: dict[str, float] = {}
        self._groups: dict[tuple[str, str], GroupOfMembers] = {}
        self._nameless: set[GroupOfMembers] = set()
        self._dead: dict[int, DeadLetter] = {}
        self._buried = 0
        self._planned: dict[str, _Planned] = {}

    def __repr__(self) -> str:
        return "memory://"

    # Publishing.

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        checked = checks.check_drafts(drafts)
        await asyncio.sleep(0)
        self.settle()
        now = self.clock.monotonic()
        self._forget_ids(now)
        receipts = []
        for draft in checked:
            if draft.id in self._ids:
                receipts.append(Receipt(draft.id, duplicate=True))
                continue
            self._ids[draft.id] = now
            stored = self._store(draft, self.clock.time(), draft.id)
            receipts.append(Receipt(draft.id, stored.event.sequence))
        return receipts

    def _store(self, draft: Draft, now: float, id: str = "") -> Stored:
        self._sequence += 1
        topic = self._topics.setdefault(draft.topic, _Topic())
        event = Event(
            id or f"{checks.UNNAMED}{self._sequence}",
            draft.topic,
            draft.metadata,
            draft.timestamp or now,
            draft.payload,
            draft.key,
            self._sequence,
            draft.schema,
        )
        ttl = draft.ttl or topic.ttl
        stored = Stored(event, now, now + ttl if ttl else math.inf, draft.group)
        self._events[self._sequence] = stored
        self._order.append(self._sequence)
        topic.sequences.append(self._sequence)
        if ttl:
            heapq.heappush(self._expiring, (stored.until, self._sequence))
        for group in self._of(draft.topic):
            group.wake()
        return stored

    def _forget_ids(self, now: float) -> None:
        # The oldest come first: an id is put there once while it is remembered.
        for id, since in list(self._ids.items()):
            if now - since <= DUPLICATE_WINDOW:
                return
            del self._ids[id]

    # What happens by itself.

    def settle(self) -> float | None:
        """See `memory_groups.Shelf`."""
        now = self.clock.time()
        while due := min(
            (one for one in self._planned.values() if one.next <= now),
            key=lambda one: one.next,
            default=None,
        ):
            self._fire(due)
        while self._expiring and self._expiring[0][0] <= now:
            _, sequence = heapq.heappop(self._expiring)
            self._remove(sequence)
        nexts = [one.next for one in self._planned.values()]
        return max(0.0, min(nexts) - now) if nexts else None

    def _fire(self, planned: _Planned) -> None:
        moment = planned.next
        self._store(planned.schedule.draft, moment)
        again = upcoming(planned.schedule, moment) if repeats(planned.schedule) else None
        if again is None:
            del self._planned[planned.schedule.id]
        else:
            planned.next = again

    def _remove(self, sequence: int) -> bool:
        stored = self._events.pop(sequence, None)
        if stored is None:
            return False
        _drop(self._order, sequence)
        _drop(self._topics[stored.event.topic].sequences, sequence)
        return True

    # What groups need.

    def get(self, sequence: int) -> Stored | None:
        """See `memory_groups.Shelf`."""
        return self._events.get(sequence)

    def after(self, pattern: str, sequence: int) -> Iterator[Stored]:
        """See `memory_groups.Shelf`."""
        if not is_pattern(pattern):
            topic = self._topics.get(pattern)
            sequences = topic.sequences if topic else []
            for place in range(bisect_right(sequences, sequence), len(sequences)):
                yield self._events[sequences[place]]
            return
        for place in range(bisect_right(self._order, sequence), len(self._order)):
            stored = self._events[self._order[place]]
            if matches(pattern, stored.event.topic):
                yield stored

    def place(self, pattern: str, start: Start) -> int:
        """See `memory_groups.Shelf`."""
        if start.beginning:
            return 0
        if start.sequence:
            return start.sequence - 1
        if start.time:
            late = (one for one in self.after(pattern, 0) if one.at >= start.time)
            first = next(late, None)
            return first.event.sequence - 1 if first else self._sequence
        return self._sequence

    def bury(self, group: str, delivery: Delivery, reason: str) -> None:
        """See `memory_groups.Shelf`."""
        self._buried += 1
        self._dead[self._buried] = DeadLetter(
            delivery.event, group, reason, delivery.attempt, self.clock.time(), self._buried
        )

    def _of(self, topic: str) -> Iterator[GroupOfMembers]:
        for group in (*self._groups.values(), *self._nameless):
            if matches(group.spec.topic, topic):
                yield group

    # Groups.

    @contextlib.asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Group]:
        """See `interface.Log`."""
        checks.check_spec(spec)
        self.settle()
        if not spec.name:
            alone = GroupOfMembers(self, spec)
            self._nameless.add(alone)
            try:
                yield MemoryGroup(self, alone, spec)
            finally:
                self._nameless.discard(alone)
            return
        group = self._groups.get((spec.topic, spec.name))
        if group is None:
            group = self._groups[spec.topic, spec.name] = GroupOfMembers(self, spec)
        elif group.spec.ordered != spec.ordered:
            raise errors.Conflict("events", checks.ordered_otherwise(group.spec))
        yield MemoryGroup(self, group, spec)

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        check_pattern(pattern)
        self.settle()
        found = [
            group.state()
            for group in self._groups.values()
            if pattern == group.spec.topic or matches(pattern, group.spec.topic)
        ]
        return sorted(found, key=lambda one: (one.topic, one.name))

    async def reset(self, topic: str, group: str, start: Start) -> None:
        checks.check_start(start)
        self.settle()
        self._group(topic, group).begin(start)

    async def forget(self, topic: str, group: str) -> None:
        self._group(topic, group).end()
        del self._groups[topic, group]

    def _group(self, topic: str, name: str) -> GroupOfMembers:
        check_pattern(topic)
        checks.check_group(name)
        found = self._groups.get((topic, name))
        if found is None:
            raise errors.NotFound("events", f"{topic} has no group {name}")
        return found

    # Looking.

    async def read(
        self, topic: str, *, limit: int = 250, offset: int = 0, after: int = 0
    ) -> list[Event]:
        check_pattern(topic)
        checks.check_page(limit, offset, after)
        self.settle()
        found = []
        for place, stored in enumerate(self.after(topic, after)):
            if place >= offset:
                found.append(stored.event)
            if len(found) == limit:
                break
        return found

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        check_pattern(pattern)
        self.settle()
        return [
            self._state(name)
            for name in sorted(self._topics)
            if matches(pattern, name) and self._exists(name)
        ]

    async def inspect(self, topic: str) -> TopicState:
        check_topic(topic)
        self.settle()
        if not self._exists(topic):
            raise errors.NotFound(
                "events", f"no topic {topic}: it has no events and was never created"
            )
        groups = [one.state() for one in self._groups.values() if matches(one.spec.topic, topic)]
        groups.sort(key=lambda one: (one.topic, one.name))
        return msgspec.structs.replace(self._state(topic), groups=tuple(groups))

    def _exists(self, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and (topic.created or bool(topic.sequences))

    def _state(self, name: str) -> TopicState:
        topic = self._topics[name]
        sequences = topic.sequences
        return TopicState(
            name,
            len(sequences),
            sum(1 for letter in self._dead.values() if letter.event.topic == name),
            sequences[0] if sequences else 0,
            sequences[-1] if sequences else 0,
            topic.ttl,
            DURABILITY,
        )

    # Topics.

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        check_topic(topic)
        kept = checks.check_ttl(ttl)
        made = self._topics.setdefault(topic, _Topic())
        made.created, made.ttl = True, kept

    async def delete(self, topic: str) -> int:
        number = await self.purge(check_topic(topic))
        self._topics.pop(topic, None)
        for key, group in list(self._groups.items()):
            if group.spec.topic == topic:
                group.end()
                del self._groups[key]
        self._dead = {
            number: letter for number, letter in self._dead.items() if letter.event.topic != topic
        }
        return number

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        check_pattern(topic)
        checks.check_purge(before, keep)
        self.settle()
        sequences = [stored.event.sequence for stored in self.after(topic, 0)]
        if before:
            sequences = sequences[: bisect_left(sequences, before)]
        elif keep:
            sequences = sequences[:-keep]
        for sequence in sequences:
            self._remove(sequence)
        return len(sequences)

    # Dead letters.

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        check_pattern(topic)
        checks.check_page(limit, 0, after)
        found = [
            letter
            for letter in self._dead.values()
            if letter.number > after
            and matches(topic, letter.event.topic)
            and group in ("", letter.group)
        ]
        return found[:limit]

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        check_pattern(topic)
        self.settle()
        letters = [
            letter
            for letter in self._dead.values()
            if matches(topic, letter.event.topic)
            and group in ("", letter.group)
            and (not numbers or letter.number in numbers)
        ]
        for letter in letters:
            event = letter.event
            again = Draft(
                event.topic,
                event.payload,
                key=event.key,
                metadata=event.metadata,
                timestamp=event.timestamp,
                schema=event.schema,
                group=letter.group,
            )
            # By its own id: who has it in an inbox knows it.
            self._store(again, self.clock.time(), event.id)
            del self._dead[letter.number]
        return len(letters)

    # Schedules.

    async def schedule(self, schedule: Schedule) -> None:
        checked = check_schedule(schedule)
        self.settle()
        now = self.clock.time()
        first = upcoming(checked, now)
        if first is not None:
            self._planned[checked.id] = _Planned(checked, max(first, now))
        for group in self._of(checked.draft.topic):
            group.wake()

    async def schedules(self) -> list[Schedule]:
        self.settle()
        return [self._planned[id].schedule for id in sorted(self._planned)]

    async def unschedule(self, id: str) -> None:
        self.settle()
        if self._planned.pop(id, None) is None:
            raise errors.NotFound("events", f"no schedule {id}")


def _drop(sequences: list[int], sequence: int) -> None:
    del sequences[bisect_left(sequences, sequence)]
