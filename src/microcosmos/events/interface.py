"""The contract of events: topics that remember, and groups that work them off."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from microcosmos.base import codec

MAX_PAYLOAD = 8 * 1024 * 1024
"""The largest payload of an event, in bytes; larger things are blobs."""

MAX_BATCH = 1000
"""Events that are published at once, all or none (a limit of nats-server's)."""

DUPLICATE_WINDOW = 120.0
"""Seconds in which an event with an id that was published already is not stored again.

Longer than `PUBLISH_PATIENCE`, so that a publisher who tries again stores nothing twice.
"""

PUBLISH_PATIENCE = 30.0
"""Seconds that a publisher goes on trying, by the same id, before it says that it could not."""

PARTITIONS = 16
"""The keys of an ordered group that are worked on at once; keys share them by their hash."""

ACK_WAIT = 30.0
"""Seconds after which an event that a dead consumer had is given to another one."""

MAX_PENDING = 1000
"""Events of an unordered group that are being worked on at once, over all its members."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened.

    Attributes:
        id: what its publisher called it, unique; ``seq:NUMBER`` when it has no such name.
        topic: where it was published.
        metadata: the publisher's notes, Title-Cased.
        timestamp: when it happened, in seconds since the epoch: the publisher's word, else when
            it was stored.
        payload: what was published, raw; JSON unless the publisher sent bytes.
        key: events of one key are in order; empty when it has none.
        sequence: its place in the namespace's log: it grows with every event.
        schema: the id of the schema that it was written by, 0 when there is none.
    """

    id: str
    topic: str
    metadata: dict[str, str] = {}
    timestamp: float = 0
    payload: bytes = b""
    key: str = ""
    sequence: int = 0
    schema: int = 0

    def unmarshal(self, type: Any = Any) -> Any:
        """The payload's JSON as a type.

        Raises:
            errors.BadRequest: it is not of that type.
        """
        return codec.decode(self.payload, type, id="events")


class Draft(msgspec.Struct, frozen=True):
    """An event that is to be published; the fields are those of `Event`.

    Attributes:
        id: made up when empty.
        timestamp: 0 is now.
        ttl: seconds after which it is forgotten, 0 for never; whole ones, rounded up.
        group: only this group is given it: what was a dead letter of that group's.
    """

    topic: str
    payload: bytes
    id: str = ""
    key: str = ""
    metadata: dict[str, str] = {}
    timestamp: float = 0
    ttl: float = 0
    schema: int = 0
    group: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """Says that an event is stored, as durably as the platform promises.

    Attributes:
        id: the event's.
        sequence: the event's; 0 if it was there already.
        duplicate: an event with this id was there already, and nothing was stored.
    """

    id: str
    sequence: int = 0
    duplicate: bool = False


class Start(msgspec.Struct, frozen=True):
    """Where a group begins: one of these, the next event if none.

    Attributes:
        beginning: with the first event that is still there.
        sequence: with the event of this number, or the next after it.
        time: with the first event stored at or after this time, in seconds since the epoch.
    """

    beginning: bool = False
    sequence: int = 0
    time: float = 0


NEW = Start()
BEGINNING = Start(beginning=True)


class GroupSpec(msgspec.Struct, frozen=True):
    """A group that works a topic off: each event is given to one of its members.

    Attributes:
        topic: a topic or a pattern of topics.
        name: of the group, whose members share its place; empty is one member that nobody shares
            and nobody remembers.
        start: where it begins when there was no such group before.
        ordered: events of one key are worked on one after another, in their order, over all
            members. Events without a key are of one key.
        ack_wait: seconds after which an event that a member has is given to another, unless the
            member says that it is at work.
    """

    topic: str
    name: str = ""
    start: Start = NEW
    ordered: bool = False
    ack_wait: float = ACK_WAIT


class Delivery(msgspec.Struct, frozen=True):
    """An event in the hands of a member.

    Attributes:
        event: the event.
        attempt: 1 the first time that it is given to a member of the group.
        token: how the backend knows it.
        only: the group that it is for, if it was a dead letter of that group's.
    """

    event: Event
    attempt: int
    token: str
    only: str = ""


class Group(Protocol):
    """A member of a group, at work.

    Every method raises `errors.Unavailable` while the engine cannot be reached; what was not
    acknowledged is given out again after `GroupSpec.ack_wait`.
    """

    @property
    def spec(self) -> GroupSpec:
        """What it works off."""

    async def pull(self, limit: int) -> Sequence[Delivery]:
        """Events to work on: at least one, waited for, and at most so many.

        Raises:
            errors.NotFound: the group was deleted.
        """

    async def ack(self, delivery: Delivery) -> None:
        """Say that it is done with; not waiting until the engine knows."""

    async def ack_sync(self, delivery: Delivery) -> None:
        """Say that it is done with, and return once the engine has taken note of it."""

    async def nack(self, delivery: Delivery, delay: float = 0) -> None:
        """Give it back, to be given out again after so many seconds."""

    async def working(self, delivery: Delivery) -> None:
        """Say that it is being worked on: the time until it is given to another begins anew."""

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Put it among the dead letters with a reason, durably, and then acknowledge it."""


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a group could not work off.

    Attributes:
        event: the event; its ``sequence`` is that of the event in the log.
        group: which could not.
        reason: why, in one line.
        attempts: how often it was given out.
        time: when it was given up, in seconds since the epoch.
        number: its own place among the dead letters.
    """

    event: Event
    group: str
    reason: str
    attempts: int
    time: float
    number: int = 0


class GroupState(msgspec.Struct, frozen=True):
    """How far a group is.

    Attributes:
        name: of the group.
        topic: what it works off.
        ordered: as of `GroupSpec`.
        lag: events that were never given out yet.
        pending: events that members have.
        members: those that wait for events just now, as far as the engine tells.
    """

    name: str
    topic: str
    ordered: bool = False
    lag: int = 0
    pending: int = 0
    members: int = 0


class TopicState(msgspec.Struct, frozen=True):
    """What is known of a topic.

    Attributes:
        topic: its name.
        events: how many it has.
        dead: how many dead letters.
        first: the sequence of the oldest event, 0 if there is none.
        last: the sequence of the newest.
        ttl: seconds that its events are kept unless they say otherwise, 0 for ever.
        durability: what an acknowledged event survives.
        groups: that work it off, patterns included.
    """

    topic: str
    events: int = 0
    dead: int = 0
    first: int = 0
    last: int = 0
    ttl: float = 0
    durability: str = ""
    groups: tuple[GroupState, ...] = ()


class Schedule(msgspec.Struct, frozen=True):
    """An event that is published later, or again and again.

    Attributes:
        id: its name; another schedule of that name replaces it.
        draft: what is published.
        when: one of: ``@at RFC 3339``, ``@every DURATION``, five or six fields of cron, ``@daily``
            and the like.
        zone: of cron's hours, a name such as ``Europe/Berlin``; UTC when empty.
    """

    id: str
    draft: Draft
    when: str
    zone: str = ""


class Log(Protocol):
    """The events of one namespace.

    Every method raises `errors.BadRequest` for input that cannot be right, and
    `errors.Unavailable` while the engine cannot be reached or its disk is full: a later call may
    succeed.
    """

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        """Store events; returned, they are durable. Several are stored all or none.

        While the engine is away it goes on trying for `PUBLISH_PATIENCE`, by the same ids.

        Raises:
            errors.TooLarge: a payload is over `MAX_PAYLOAD`, or there are over `MAX_BATCH`.
        """

    def group(self, spec: GroupSpec) -> AbstractAsyncContextManager[Group]:
        """Be a member of a group while entered; the group is made if there was none.

        Raises:
            errors.Conflict: on entry: there is such a group, ordered otherwise.
        """

    async def read(
        self, topic: str, *, limit: int = 250, offset: int = 0, after: int = 0
    ) -> list[Event]:
        """Events of a topic or a pattern, in their order, without any group.

        Args:
            topic: which.
            limit: at most so many, up to `MAX_BATCH`; fewer when they are large.
            offset: skip so many of them first.
            after: a cursor: only those with a larger sequence.
        """

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        """The topics that have events or were created, sorted, without their groups."""

    async def inspect(self, topic: str) -> TopicState:
        """One topic with its groups.

        Raises:
            errors.NotFound: it has no events and was never created.
        """

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        """Make a topic, or change how long its events are kept from now on."""

    async def delete(self, topic: str) -> int:
        """Remove a topic with its events, dead letters and groups (patterns keep theirs).

        Returns:
            How many events it had.
        """

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        """Forget events: all, those before a sequence, or all but the newest so many.

        Returns:
            How many were forgotten.
        """

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        """The groups with a name, sorted."""

    async def reset(self, topic: str, group: str, start: Start) -> None:
        """Let a group begin again from somewhere: its members go on from there.

        Raises:
            errors.NotFound: there is no such group.
        """

    async def forget(self, topic: str, group: str) -> None:
        """Remove a group: its members end.

        Raises:
            errors.NotFound: there is no such group.
        """

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        """Dead letters of a topic or a pattern, the oldest first; ``after`` is a number of one."""

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        """Give dead letters to their group again, each at its topic's end, and no other group.

        Returns:
            How many.
        """

    async def schedule(self, schedule: Schedule) -> None:
        """Publish later, or again and again; it survives restarts as events do.

        Raises:
            errors.BadRequest: ``when`` or ``zone`` cannot be read.
        """

    async def schedules(self) -> list[Schedule]:
        """Those that are still to come, sorted by id."""

    async def unschedule(self, id: str) -> None:
        """Remove a schedule.

        Raises:
            errors.NotFound: there is none of that name.
        """


def partition(key: str) -> int:
    """Which part of the log the events of a key are in."""
    return zlib.crc32(key.encode()) % PARTITIONS if key else 0
