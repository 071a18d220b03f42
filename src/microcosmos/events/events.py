"""Events as authors have them: values of their own types, published, consumed, read."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import TRACE

from . import schedule as schedules
from .checks import check_delay
from .drafting import drafted
from .holding import Holding
from .interface import (
    ACK_WAIT,
    NEW,
    DeadLetter,
    Draft,
    Event,
    Group,
    GroupSpec,
    GroupState,
    Log,
    Receipt,
    Schedule,
    Start,
    TopicState,
)
from .moments import Moment, Offset, seconds, starting
from .pace import Pace
from .schema import Contracts
from .taken import Taken, effect_of
from .transactions.inbox import Inbox
from .transactions.transaction import Transaction

log = logging.getLogger("microcosmos.events")

PREFETCH = 100
"""Events that a loop over `Events.consume` has in its hands at most, that in its body included."""

RETRY_EVERY = 0.5
"""Seconds between two tries to reach the engine again."""


class Events:
    """The events of a namespace.

    Args:
        log: where they are.
        contracts: what they are checked by when they are published and consumed; None is by
            nothing.
        inbox: where it is noted what was done because of an event.
        clock: what waiting goes by.

    Attributes:
        log: as given.
        contracts: as given.
        inbox: as given.
    """

    def __init__(
        self,
        log: Log,
        contracts: Contracts | None = None,
        *,
        inbox: Inbox | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.log = log
        self.contracts = contracts
        self.inbox = inbox
        self._clock = clock

    # Publishing.

    async def publish(
        self,
        topic: str,
        message: Any,
        *,
        metadata: Mapping[str, str] | None = None,
        timestamp: Moment = 0,
        key: str = "",
        ttl: float = 0,
        id: str = "",
    ) -> Receipt:
        """Publish an event; returned, it is durable.

            await service.events.publish("orders.placed", order, key=order.user)

        The metadata of the call or event that is being handled goes along, its trace too.

        Args:
            topic: where.
            message: a struct, a dict or another value of JSON; bytes are published as they are.
            metadata: notes beside it.
            timestamp: when it happened: a `datetime` with a zone, or seconds since the epoch;
                now unless said.
            key: events of one key are in order.
            ttl: seconds after which it is forgotten, 0 for as long as the topic keeps its events.
            id: its name; published again within `DUPLICATE_WINDOW`, it is not stored again.

        Raises:
            errors.BadRequest: it cannot be an event, or does not fit the topic's schema.
            errors.Conflict: its type is not compatible with the topic's schemas.
            errors.TooLarge: the payload is over `MAX_PAYLOAD`.
            errors.Unavailable: the engine cannot be reached, or its disk is full.
        """
        draft = await self.draft(
            topic, message, metadata=metadata, timestamp=timestamp, key=key, ttl=ttl, id=id
        )
        (receipt,) = await self.log.publish(draft)
        return receipt

    async def publish_all(self, messages: Iterable[Draft | tuple[str, Any]]) -> list[Receipt]:
        """Publish events at once, all or none: pairs of topic and message, or what `draft` gives.

        Raises:
            errors.Error: as `publish` does; and `errors.TooLarge` for more than `MAX_BATCH`.
        """
        drafts = [
            one if isinstance(one, Draft) else await self.draft(one[0], one[1]) for one in messages
        ]
        return await self.log.publish(*drafts) if drafts else []

    async def draft(self, topic: str, message: Any, **about: Any) -> Draft:
        """An event that is not published yet; the arguments and errors are those of `publish`."""
        return await drafted(self.contracts, topic, message, **about)

    # Consuming.

    async def consume(
        self,
        topic: str,
        *,
        group: str = "",
        offset: Offset = "new",
        sequence: int = 0,
        ordered: bool = False,
        auto_ack: bool = True,
        ack_wait: float = ACK_WAIT,
    ) -> AsyncGenerator[Taken, None]:
        """Events as they come, for a loop.

            async for event in service.events.consume("chat.1"):
                print(event.unmarshal(Message).text)

        While the loop has events, no other member of the group is given them. When it ends, those
        that were not acknowledged are given back, the one in its body too. Events that break
        their schema become dead letters and are not seen here.

        Args:
            topic: a topic or a pattern.
            group: members of a group share its events; without one every loop gets all.
            offset: where a new group begins, and a loop without a group: ``new``, ``beginning``,
                or a time. A group that was there goes on where it was.
            sequence: the same by the number of an event.
            ordered: events of one key come one after another, over all members.
            auto_ack: acknowledge an event when the loop asks for the next one; if not, the body
                says ``await event.ack()``, ``nack(delay)`` or ``reject(reason)``.
            ack_wait: seconds after which an event that a dead member had is given to another.

        Raises:
            errors.BadRequest: no topic, group or offset.
            errors.Conflict: there is such a group, ordered otherwise.
            errors.NotFound: the group was deleted.
        """
        spec = GroupSpec(topic, group, starting(offset, sequence), ordered, ack_wait)
        while True:
            try:
                async with self.log.group(spec) as member, Holding(member, self._clock) as held:
                    if not group and spec.start == NEW:
                        spec = msgspec.structs.replace(spec, start=Start(time=self._clock.time()))
                    async for taken in self._taken(member, held):
                        if not group:
                            after = Start(sequence=taken.sequence + 1)
                            spec = msgspec.structs.replace(spec, start=after)
                        yield taken
                        if auto_ack:
                            await taken.ack()
            except errors.NotFound:
                # Nobody deletes a member without a name: the engine has forgotten it.
                if group:
                    raise
            except errors.Unavailable as exc:
                log.info("%s: %s; trying again", topic, exc.detail)
            await self._clock.sleep(RETRY_EVERY)

    @asynccontextmanager
    async def once(self, event: Taken) -> AsyncIterator[Transaction]:
        """A transaction of the store that is committed once for this event and its group.

            async for event in service.events.consume("orders.placed", group="billing"):
                async with service.events.once(event) as tx:
                    if not tx.done:
                        tx.set(event.key, event.unmarshal())

        With it is committed that the event had its effect; then the event is acknowledged, and
        that is waited for. Given out again, it comes with ``tx.done``.

        Raises:
            errors.Conflict: at the end of the block: a record that it read was changed by another;
                nothing was done, so give the event back, or do it anew.
            RuntimeError: there is no inbox: these are not the events of a service.
        """
        if self.inbox is None:
            raise RuntimeError("what is done once is noted in a store, and here is none")
        async with self.inbox.once(effect_of(event.group), event.id) as transaction:
            yield transaction
        await event.ack(sync=True)

    async def _taken(self, member: Group, held: Holding) -> AsyncIterator[Taken]:
        """The events of a member, those out that its loop does not see."""
        pace = Pace(1, PREFETCH, self._clock)
        while True:
            deliveries = await member.pull(pace.limit)
            pace.took(len(deliveries), pace.limit)
            for delivery in deliveries:
                held.add(delivery)
            for delivery in deliveries:
                if not held.begin(delivery):
                    continue
                taken = Taken(member, held, delivery)
                if delivery.only not in ("", member.spec.name):
                    await taken.ack()
                elif await self._readable(taken):
                    yield taken
            pace.through()

    async def _readable(self, taken: Taken) -> bool:
        if self.contracts is None:
            return True
        try:
            await self.contracts.reading(taken.event)
        except errors.BadRequest as exc:
            log.warning("%s of %s is a dead letter: %s", taken.id, taken.topic, exc.detail)
            await taken.reject(exc.detail)
            return False
        return True

    async def read(
        self, topic: str, limit: int = 250, offset: int = 0, *, after: int = 0
    ) -> list[Event]:
        """Events of a topic or a pattern, in their order, without any group; see `Log.read`."""
        return await self.log.read(topic, limit=limit, offset=offset, after=after)

    # Topics and groups.

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        """The topics that have events or were created; see `Log.topics`."""
        return await self.log.topics(pattern)

    async def inspect(self, topic: str) -> TopicState:
        """One topic with its groups; see `Log.inspect`."""
        return await self.log.inspect(topic)

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        """Make a topic, or change how long its events are kept; see `Log.create`."""
        await self.log.create(topic, ttl=ttl)

    async def delete(self, topic: str) -> int:
        """Remove a topic with its events, dead letters and groups; see `Log.delete`."""
        return await self.log.delete(topic)

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        """Forget events of a topic; see `Log.purge`."""
        return await self.log.purge(topic, before=before, keep=keep)

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        """The groups with a name, and how far they are; see `Log.groups`."""
        return await self.log.groups(pattern)

    async def reset(
        self, topic: str, group: str, offset: Offset = "beginning", *, sequence: int = 0
    ) -> None:
        """Let a group begin again from somewhere; see `consume` for where, and `Log.reset`."""
        await self.log.reset(topic, group, starting(offset, sequence))

    async def forget(self, topic: str, group: str) -> None:
        """Remove a group; see `Log.forget`."""
        await self.log.forget(topic, group)

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        """Dead letters, the oldest first; see `Log.dead`."""
        return await self.log.dead(topic, group=group, limit=limit, after=after)

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        """Give dead letters to their group again; see `Log.redrive`."""
        return await self.log.redrive(topic, group=group, numbers=numbers)

    # Schedules.

    async def schedule(
        self,
        id: str,
        topic: str,
        message: Any,
        *,
        at: Moment | None = None,
        delay: float | None = None,
        every: float | None = None,
        cron: str = "",
        zone: str = "",
        key: str = "",
        metadata: Mapping[str, str] | None = None,
        ttl: float = 0,
    ) -> Schedule:
        """Publish later, or again and again, whether or not this service runs then.

            await service.events.schedule("nightly", "reports.due", {}, cron="0 3 * * *")

        Args:
            id: its name; another schedule of that name is replaced.
            topic: where.
            message: as of `publish`.
            at: once at this time; at once if that is over.
            delay: once after so many seconds.
            every: every so many seconds, at least `MIN_EVERY`.
            cron: five fields (six with seconds before them), or ``@daily`` and the like.
            zone: of cron's hours, such as ``Europe/Berlin``; UTC unless said.
            key: as of `publish`.
            metadata: as of `publish`.
            ttl: as of `publish`.

        Raises:
            errors.BadRequest: the times cannot be read, or not one of the four is said; or as
                `publish` does.
        """
        said = [at is not None, delay is not None, every is not None, bool(cron)]
        if sum(said) != 1:
            raise errors.BadRequest("events", "a schedule has one of: at, delay, every, cron")
        if delay is not None:
            at = self._clock.time() + check_delay(delay)
        if every is not None:
            when = schedules.every(every)
        else:
            when = cron if at is None else schedules.at(seconds(at))
        draft = await self.draft(topic, message, key=key, metadata=metadata, ttl=ttl)
        # The trace of who makes it says nothing about what it does next year.
        draft.metadata.pop(TRACE, None)
        made = schedules.check_schedule(Schedule(id, draft, when, zone))
        await self.log.schedule(made)
        return made

    async def schedules(self) -> list[Schedule]:
        """Those that are still to come, sorted by id."""
        return await self.log.schedules()

    async def unschedule(self, id: str) -> None:
        """Remove a schedule.

        Raises:
            errors.NotFound: there is none of that name.
        """
        await self.log.unschedule(id)
