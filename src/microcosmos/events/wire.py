"""What travels between the events service and those who ask it.

The requests of ``Stream.Publish``, ``Stream.Consume`` and ``Store.Read`` are Micro v3's: times in
whole seconds since the epoch, ``ack_wait`` in nanoseconds. All others are ours, in seconds.
Payloads are base64, as everywhere in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

from microcosmos.base import codec, errors

from .interface import (
    ACK_WAIT,
    NEW,
    DeadLetter,
    Delivery,
    Draft,
    Event,
    GroupSpec,
    GroupState,
    Receipt,
    Schedule,
    Start,
    TopicState,
)

NAME = "events"

UNLISTED = {"micro.unlisted": "true"}
"""Metadata of an endpoint that people need not see."""

MAX_REMOTE = 5 * 1024 * 1024
"""Bytes of payload that one call, or one message of Micro's streams, carries through the service.

Larger events go to and from services by the engine itself, and by our own client in pieces.
"""

MAX_UPLOAD = 64 * 1024 * 1024
"""Bytes of payload of events that are published together through the service."""

MAX_PULL = 256
"""Events that one pull over rpc gives at most."""

DEFAULT_READ = 250
"""Events that a read gives unless it says how many, as in Micro."""

PIECE = 1024 * 1024
"""About the bytes of a message of our own streams; what is larger goes in several."""

T = TypeVar("T")


def check_size(drafts: Iterable[Draft]) -> int:
    """The bytes of payload of events that are published together.

    Raises:
        errors.TooLarge: they are over `MAX_UPLOAD`.
    """
    size = sum(len(draft.payload) for draft in drafts)
    if size > MAX_UPLOAD:
        detail = f"payloads of {size} bytes at once are over {MAX_UPLOAD}; publish them in parts"
        raise errors.TooLarge(NAME, detail)
    return size


# Micro's own.


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Stream.Publish`` takes; Micro has the first four.

    Attributes:
        topic: where to.
        metadata: notes.
        payload: the event.
        timestamp: when it happened, 0 for now.
        key: events of one key are in order.
        id: its name: another one of that name soon after is not stored again.
        ttl: seconds after which it is forgotten, 0 for never.
        schema: the id of the schema that it was written by, 0 for the topic's newest.
    """

    topic: str
    metadata: dict[str, str] = {}
    payload: bytes = b""
    timestamp: float = 0
    key: str = ""
    id: str = ""
    ttl: float = 0
    schema: int = 0

    def draft(self) -> Draft:
        """The event that is meant."""
        return Draft(
            self.topic,
            self.payload,
            id=self.id,
            key=self.key,
            metadata=self.metadata,
            timestamp=self.timestamp,
            ttl=self.ttl,
            schema=self.schema,
        )


class ConsumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Stream.Consume`` takes; Micro has the first six.

    Attributes:
        topic: a topic or a pattern.
        group: who share the events; empty is nobody.
        offset: events from that time on, 0 for new ones.
        auto_ack: an event is done with when it was sent; False waits for an `AckRequest`.
        ack_wait: nanoseconds until an event that was not acknowledged is sent again.
        retry_limit: how often it is; then it is a dead letter. -1 is for ever.
        start: where to begin, in place of ``offset``.
        ordered: events of one key are sent one after another, each when the one before is done.
        limit: the stream ends after so many, once they are done with; 0 for never.
    """

    topic: str
    group: str = ""
    offset: int = 0
    auto_ack: bool = True
    ack_wait: int = 0
    retry_limit: int = -1
    start: Start | None = None
    ordered: bool = False
    limit: int = 0

    def spec(self) -> GroupSpec:
        """The group that is meant."""
        start = self.start or (Start(time=float(self.offset)) if self.offset > 0 else NEW)
        wait = self.ack_wait / 1e9 if self.ack_wait > 0 else ACK_WAIT
        return GroupSpec(self.topic, self.group, start, self.ordered, wait)


class AckRequest(msgspec.Struct, frozen=True):
    """What comes back on the stream of ``Stream.Consume``.

    Attributes:
        id: of the event.
        success: it is done with; else it is to be sent again.
        delay: seconds until then; 0 leaves it to us.
    """

    id: str
    success: bool = False
    delay: float = 0


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as Micro's clients know it, and beside that its key, sequence and schema."""

    id: str
    topic: str
    metadata: dict[str, str]
    payload: bytes
    timestamp: int
    key: str = ""
    sequence: int = 0
    schema: int = 0


def sent(event: Event) -> Sent:
    """An event in Micro's form."""
    return Sent(
        id=event.id,
        topic=event.topic,
        metadata=event.metadata,
        payload=event.payload,
        timestamp=int(event.timestamp),
        key=event.key,
        sequence=event.sequence,
        schema=event.schema,
    )


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Store.Read`` takes; Micro has the first three.

    Attributes:
        topic: a topic or a pattern.
        limit: at most so many; 0 is `DEFAULT_READ`.
        offset: skip so many first.
        after: only those with a larger sequence.
    """

    topic: str
    limit: int = 0
    offset: int = 0
    after: int = 0


class ReadResponse(msgspec.Struct, frozen=True):
    """What ``Store.Read`` gives."""

    events: list[Sent]


class WriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Store.Write`` would take; it is refused, as in Micro."""

    event: Any = None
    ttl: int = 0


# Our own.


class Drafts(msgspec.Struct, frozen=True):
    """What ``Stream.Append`` takes: events that are stored all or none."""

    drafts: list[Draft]


class Receipts(msgspec.Struct, frozen=True):
    """What ``Stream.Append`` gives, in the order of the drafts."""

    receipts: list[Receipt]


class Nothing(msgspec.Struct, frozen=True):
    """What endpoints give that have nothing to say."""


class JoinRequest(msgspec.Struct, frozen=True):
    """What ``Stream.Join`` takes."""

    spec: GroupSpec


class Joined(msgspec.Struct, frozen=True):
    """What ``Stream.Join`` gives: what the engine calls the group's consumers."""

    consumers: list[str]


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """What names a topic, or a pattern of topics where several are meant."""

    topic: str = ">"


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Topics.Create`` takes."""

    topic: str
    ttl: float = 0


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Topics.Purge`` takes."""

    topic: str
    before: int = 0
    keep: int = 0


class Topics(msgspec.Struct, frozen=True):
    """What ``Topics.List`` gives."""

    topics: list[TopicState]


class Ttls(msgspec.Struct, frozen=True):
    """What ``Topics.Ttls`` gives: seconds that events are kept, of topics that do so for a time."""

    ttls: dict[str, float]


class Number(msgspec.Struct, frozen=True):
    """How many events something was done to."""

    events: int


class Groups(msgspec.Struct, frozen=True):
    """What ``Groups.List`` gives."""

    groups: list[GroupState]


class GroupName(msgspec.Struct, frozen=True, kw_only=True):
    """What names a group."""

    topic: str
    group: str


class ResetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Groups.Reset`` takes."""

    topic: str
    group: str
    start: Start = NEW


class LettersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``DeadLetters.List`` takes."""

    topic: str = ">"
    group: str = ""
    limit: int = 0
    after: int = 0


class Letters(msgspec.Struct, frozen=True):
    """What ``DeadLetters.List`` gives."""

    letters: list[DeadLetter]


class RedriveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``DeadLetters.Redrive`` takes."""

    topic: str
    group: str = ""
    numbers: list[int] = []


class Schedules(msgspec.Struct, frozen=True):
    """What ``Schedules.List`` gives."""

    schedules: list[Schedule]


class ScheduleId(msgspec.Struct, frozen=True):
    """What names a schedule."""

    id: str


Verb = Literal["pull", "stop", "ack", "sync", "nack", "working", "bury"]


class Ask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a member sends on the stream of ``Stream.Pull``.

    Attributes:
        do: what: ``stop`` ends a pull that nobody waits for any more, ``sync`` is an ack that is
            answered.
        number: of the request, where it is answered: ``pull``, ``sync`` and ``bury``.
        token: of the delivery.
        limit: of a pull.
        delay: of a nack, in seconds.
        reason: of a burial.
    """

    do: Verb
    number: int = 0
    token: str = ""
    limit: int = 0
    delay: float = 0
    reason: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the member is sent; the first one has no number and says that it is a member.

    Attributes:
        number: of the request.
        deliveries: what was pulled.
        more: further ones of the same pull follow.
        error: why it could not be done, as errors travel.
    """

    number: int = 0
    deliveries: list[Delivery] = []
    more: bool = False
    error: bytes = b""


class Piece(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message of our own streams: something whole, or a part of its JSON.

    Attributes:
        whole: all of it.
        part: some of it.
        more: parts of it follow.
    """

    whole: msgspec.Raw = msgspec.Raw()
    part: bytes = b""
    more: bool = False


def pieces(value: Any) -> Iterator[Piece]:
    """Something in pieces that a stream can carry."""
    data = codec.encode(value)
    if len(data) <= PIECE:
        yield Piece(whole=msgspec.Raw(data))
        return
    for at in range(0, len(data), PIECE):
        yield Piece(part=data[at : at + PIECE], more=at + PIECE < len(data))


class Whole(Generic[T]):
    """Puts pieces together.

    Args:
        kind: what they are of.
        limit: the most bytes of one.
    """

    def __init__(self, kind: type[T], limit: int) -> None:
        self._kind = kind
        self._limit = limit
        self._parts = bytearray()

    def add(self, piece: Piece) -> T | None:
        """The whole, if this was its last piece.

        Raises:
            errors.BadRequest: it is too long, or no such thing.
        """
        if not piece.part:
            return codec.decode(bytes(piece.whole), self._kind, id=NAME)
        self._parts += piece.part
        if len(self._parts) > self._limit:
            raise codec.bad_input(NAME, ValueError(f"more than {self._limit} bytes in one"))
        if piece.more:
            return None
        data, self._parts = bytes(self._parts), bytearray()
        return codec.decode(data, self._kind, id=NAME)
