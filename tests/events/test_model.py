"""Any run of operations does on every log what it does on lists."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from microcosmos.base.topics import matches
from microcosmos.events.interface import (
    BEGINNING,
    NEW,
    Delivery,
    Draft,
    Event,
    Group,
    GroupSpec,
    Start,
    partition,
)

from .worlds import World, in_memory

TOPICS = ["a", "a.b", "c"]
KEYS = ["", "k1", "k2", "k3"]
SPECS = [
    GroupSpec("a", "plain", BEGINNING, ack_wait=30),
    GroupSpec("a.>", "pattern", NEW, ack_wait=10),
    GroupSpec(">", "ordered", BEGINNING, ordered=True, ack_wait=30),
    GroupSpec("a", "ordered-a", NEW, ordered=True, ack_wait=10),
]


class Kept(NamedTuple):
    """An event that is in the log."""

    event: Event
    until: float


class Given(NamedTuple):
    """An event that was given out: when it is given out again."""

    attempt: int
    again: float


class Model:
    """A group, as lists have it."""

    def __init__(self, spec: GroupSpec, after: int) -> None:
        self.spec = spec
        self.begin(after)

    def begin(self, after: int) -> None:
        self.after = after
        self.seen: set[int] = set()
        self.given: dict[int, Given] = {}

    def lane(self, event: Event) -> int:
        return partition(event.key) if self.spec.ordered else 0

    def new(self, log: list[Kept]) -> list[Event]:
        """What was never given out, in order."""
        return [
            kept.event
            for kept in log
            if kept.event.sequence > self.after
            and matches(self.spec.topic, kept.event.topic)
            and kept.event.sequence not in self.seen
        ]

    def due(self, log: list[Kept], now: float) -> list[Event]:
        """What is to be given out again."""
        there = {kept.event.sequence: kept.event for kept in log}
        return [
            there[sequence]
            for sequence, given in self.given.items()
            if given.again <= now and sequence in there
        ]

    def free(self, log: list[Kept], now: float) -> list[Event]:
        """What may be given out now, in the order of each lane."""
        due = self.due(log, now)
        if not self.spec.ordered:
            return due + self.new(log)
        there = {kept.event.sequence for kept in log}
        gone = {
            each for each, given in self.given.items() if each not in there and given.again <= now
        }
        lanes = {self.lanes[sequence] for sequence in self.given if sequence not in gone}
        firsts: dict[int, Event] = {}
        for event in self.new(log):
            firsts.setdefault(self.lane(event), event)
        return due + [event for lane, event in firsts.items() if lane not in lanes]

    lanes: dict[int, int]


class LogMachine(RuleBasedStateMachine):
    """A log in memory; its clock is moved."""

    moves = True
    """Whether time passes only when it is told to."""

    def opening(self):
        return in_memory()

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.world: World = self.run(self.stack.enter_async_context(self.opening()))
        self.log: list[Kept] = []
        self.last = 0
        self.number = 0
        self.members: list[list[Group]] = []
        self.models = [Model(spec, 0) for spec in SPECS]
        for model in self.models:
            model.lanes = {}
            members = [
                self.run(self.stack.enter_async_context(self.world.log.group(model.spec)))
                for _ in "12"
            ]
            self.members.append(members)
        self.hands: list[tuple[int, Group, Delivery]] = []

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.stack.aclose())
            self.runner.close()

    def run(self, work):
        return self.runner.run(work)

    def now(self) -> float:
        return self.world.clock.monotonic() if self.world.clock else 0.0

    def forget(self) -> None:
        self.log = [kept for kept in self.log if kept.until > self.now()]

    @rule(
        places=st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from(KEYS)), max_size=5),
        ttl=st.sampled_from([0, 0, 0, 15]),
    )
    def publish(self, places: list[tuple[str, str]], ttl: float) -> None:
        drafts = []
        for topic, key in places:
            self.number += 1
            drafts.append(
                Draft(topic, b"%d" % self.number, id=f"id{self.number}", key=key, ttl=ttl)
            )
        receipts = self.run(self.world.log.publish(*drafts))
        for draft, receipt in zip(drafts, receipts, strict=True):
            assert (receipt.id, receipt.duplicate) == (draft.id, False)
            assert receipt.sequence > self.last
            self.last = receipt.sequence
            event = Event(draft.id, draft.topic, {}, 0, draft.payload, draft.key, receipt.sequence)
            self.log.append(Kept(event, self.now() + ttl if ttl else math.inf))
            for model in self.models:
                model.lanes[event.sequence] = model.lane(event)

    @precondition(lambda self: self.number and self.now() < 1_700_000_000 + 100)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.number))
        (receipt,) = self.run(self.world.log.publish(Draft("a", b"x", id=f"id{number}")))
        assert receipt.duplicate

    @rule(which=st.integers(0, 3), who=st.integers(0, 1), limit=st.integers(1, 4))
    def pull(self, which: int, who: int, limit: int) -> None:
        self.forget()
        model, member = self.models[which], self.members[which][who]
        free = model.free(self.log, self.now())
        found = self.run(self.pulled(member, limit, bool(free)))
        if not free:
            assert found == []
            return
        assert 1 <= len(found) <= limit
        sequences = [each.event.sequence for each in found]
        assert len({*sequences}) == len(sequences)
        fresh = [each for each in found if each.event.sequence not in model.given]
        if model.spec.ordered:
            allowed = {event.sequence for event in free}
            assert {*sequences} <= allowed
            lanes = [model.lane(each.event) for each in found]
            assert len({*lanes}) == len(lanes)
        else:
            new = [event.sequence for event in model.new(self.log)]
            assert [each.event.sequence for each in fresh] == new[: len(fresh)]
        for each in found:
            sequence = each.event.sequence
            before = model.given.get(sequence)
            assert each.attempt == (before.attempt if before else 0) + 1
            assert before is None or before.again <= self.now()
            model.seen.add(sequence)
            model.given[sequence] = Given(each.attempt, self.now() + model.spec.ack_wait)
            self.hands.append((which, member, each))

    async def pulled(self, member: Group, limit: int, some: bool) -> list[Delivery]:
        pulling = asyncio.create_task(member.pull(limit))
        if some:
            async with asyncio.timeout(60):
                return [*await pulling]
        await self.world.settled()
        if pulling.done():
            return [*pulling.result()]
        pulling.cancel()
        await asyncio.wait([pulling])
        return []

    def hand(self, data: st.DataObject) -> tuple[Model, Group, Delivery]:
        """What some member was given, perhaps long ago."""
        which, member, delivery = data.draw(st.sampled_from(self.hands))
        return self.models[which], member, delivery

    def current(self, model: Model, delivery: Delivery) -> bool:
        given = model.given.get(delivery.event.sequence)
        return given is not None and given.attempt == delivery.attempt

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), how=st.sampled_from(["ack", "ack_sync", "bury"]))
    def done(self, data: st.DataObject, how: str) -> None:
        model, member, delivery = self.hand(data)
        if how == "bury" and not self.current(model, delivery):
            return
        said = ("bad",) if how == "bury" else ()
        self.run(self.told(getattr(member, how)(delivery, *said)))
        model.given.pop(delivery.event.sequence, None)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), delay=st.sampled_from([0, 5]))
    def nack(self, data: st.DataObject, delay: float) -> None:
        model, member, delivery = self.hand(data)
        if not self.current(model, delivery) or (delay and not self.moves):
            return
        self.run(self.told(member.nack(delivery, delay)))
        model.given[delivery.event.sequence] = Given(delivery.attempt, self.now() + delay)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def working(self, data: st.DataObject) -> None:
        model, member, delivery = self.hand(data)
        if self.current(model, delivery):
            self.run(self.told(member.working(delivery)))
            again = self.now() + model.spec.ack_wait
            model.given[delivery.event.sequence] = Given(delivery.attempt, again)

    async def told(self, saying) -> None:
        await saying
        await self.world.settled()

    @precondition(lambda self: self.moves)
    @rule(seconds=st.sampled_from([1, 6, 20]))
    def later(self, seconds: float) -> None:
        self.run(self.world.later(seconds))
        self.forget()

    @rule(topic=st.sampled_from([*TOPICS, "a.>"]), keep=st.integers(0, 2), data=st.data())
    def purge(self, topic: str, keep: int, data: st.DataObject) -> None:
        self.forget()
        mine = [kept for kept in self.log if matches(topic, kept.event.topic)]
        before = 0
        if not keep and data.draw(st.booleans()):
            before = data.draw(st.integers(1, self.last + 1))
        gone = mine[: len(mine) - keep] if keep else mine
        if before:
            gone = [kept for kept in mine if kept.event.sequence < before]
        assert self.run(self.world.core.purge(topic, before=before, keep=keep)) == len(gone)
        self.log = [kept for kept in self.log if kept not in gone]

    @rule(which=st.integers(0, 3), data=st.data())
    def reset(self, which: int, data: st.DataObject) -> None:
        model = self.models[which]
        sequence = data.draw(st.integers(0, self.last + 1))
        start = Start(sequence=sequence) if sequence else NEW
        self.run(self.world.core.reset(model.spec.topic, model.spec.name, start))
        model.begin(sequence - 1 if sequence else self.last)
        self.hands = [each for each in self.hands if each[0] != which]

    @invariant()
    def the_log_is_what_it_should_be(self) -> None:
        if not hasattr(self, "world"):
            return
        self.forget()
        read = self.run(self.world.log.read(">", limit=1000))
        assert [(one.id, one.topic, one.payload, one.key, one.sequence) for one in read] == [
            (one.id, one.topic, one.payload, one.key, one.sequence)
            for one in (kept.event for kept in self.log)
        ]

    @invariant()
    def groups_are_as_far_as_they_should_be(self) -> None:
        # What nats-server counts for a group is not always right after purges.
        if hasattr(self, "world") and self.moves:
            states = {one.name: one for one in self.run(self.world.core.groups())}
            for model in self.models:
                assert states[model.spec.name].lag == len(model.new(self.log))


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, database=None
)
