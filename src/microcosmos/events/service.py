"""Events served over rpc: the endpoints of Micro v3, and ours for all that a `Log` can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, cast

from microcosmos.base import context, errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Endpoint, Hosted

from . import wire
from .checks import check_drafts
from .interface import (
    MAX_BATCH,
    MAX_PAYLOAD,
    DeadLetter,
    Draft,
    Event,
    GroupSpec,
    Log,
    Receipt,
    Schedule,
    TopicState,
)
from .member import Member
from .sending import Sending

Authorise = Callable[[str, str], None]
"""Refuses who calls just now what they may not do: a topic or a pattern, and a verb of it.

The verbs are ``publish``, ``consume``, ``read`` and ``admin``.
"""

_PAGE = 500
_LARGEST = (MAX_PAYLOAD + 1024 * 1024) * 4 // 3 + wire.PIECE

T = TypeVar("T")


class Checks(Protocol):
    """Sees to it that what is published is what its topic promises."""

    async def check(self, namespace: str, draft: Draft) -> Draft:
        """The draft with the id of its schema.

        Raises:
            errors.BadRequest: it is not of the topic's schema.
        """


class Joining(Protocol):
    """A log whose events are published and worked off straight at the engine."""

    async def join(self, spec: GroupSpec) -> Sequence[str]:
        """What the engine calls the consumers of a group, which is made if there was none."""

    async def ttls(self) -> dict[str, float]:
        """The topics whose events are kept for a time only, and for how many seconds."""


class Account(Protocol):
    """What is asked of who calls."""

    @property
    def id(self) -> str: ...

    @property
    def type(self) -> str: ...


class EventsService:
    """Serves the logs of all namespaces.

    Args:
        log_of: the log of a namespace.
        authorise: refuses who may not.
        contracts: checks what is published.
        audit: notes what was removed.
    """

    def __init__(
        self,
        log_of: Callable[[str], Log],
        authorise: Authorise,
        contracts: Checks | None = None,
        audit: Audit = unaudited,
    ) -> None:
        self._log_of = log_of
        self._authorise = authorise
        self._contracts = contracts
        self._audit = audit

    def hosted(self) -> Hosted:
        """The service ``events``."""
        functions: dict[str, Callable[..., Any]] = {
            "Stream.Publish": self.publish,
            "Stream.Consume": self.consume,
            "Store.Read": self.read,
            "Store.Write": self.write,
            "Topics.List": self.topics,
            "Topics.Inspect": self.inspect,
            "Topics.Create": self.create,
            "Topics.Delete": self.delete,
            "Topics.Purge": self.purge,
            "Groups.List": self.groups,
            "Groups.Reset": self.reset,
            "Groups.Delete": self.forget,
            "DeadLetters.List": self.dead,
            "DeadLetters.Redrive": self.redrive,
            "Schedules.Create": self.schedule,
            "Schedules.List": self.schedules,
            "Schedules.Delete": self.unschedule,
        }
        unlisted: dict[str, Callable[..., Any]] = {
            "Stream.Append": self.append,
            "Stream.Upload": self.upload,
            "Stream.Join": self.join,
            "Stream.Pull": self.pull,
            "Store.Scan": self.scan,
            "Topics.Ttls": self.ttls,
            "DeadLetters.Scan": self.scan_dead,
        }
        endpoints = [_endpoint(function, name) for name, function in functions.items()]
        endpoints += [
            _endpoint(function, name, wire.UNLISTED) for name, function in unlisted.items()
        ]
        return Hosted(wire.NAME, endpoints)

    def _log(self, topic: str, verb: str) -> Log:
        """The log of the call's namespace, for something that who calls may do with a topic."""
        self._authorise(topic, verb)
        return self._log_of(context.current().namespace)

    # Publishing.

    async def publish(self, request: wire.PublishRequest) -> Receipt:
        """Publish an event; the answer says that it is durable."""
        (receipt,) = await self._append([request.draft()])
        return receipt

    async def append(self, request: wire.Drafts) -> wire.Receipts:
        """Publish several events, all or none."""
        return wire.Receipts(await self._append(request.drafts))

    async def upload(self, drafts: AsyncIterator[wire.Piece]) -> wire.Receipts:
        """Publish several events, all or none, that one call could not carry."""
        whole = wire.Whole(Draft, _LARGEST)
        found: list[Draft] = []
        async for piece in drafts:
            if (draft := whole.add(piece)) is not None:
                self._authorise(draft.topic, "publish")
                found.append(draft)
                wire.check_size(found)
            if len(found) > MAX_BATCH:
                break
        return wire.Receipts(await self._append(found))

    async def _append(self, drafts: Sequence[Draft]) -> list[Receipt]:
        for topic in {draft.topic for draft in drafts}:
            self._authorise(topic, "publish")
        namespace = context.current().namespace
        log = self._log_of(namespace)
        checked: Sequence[Draft] = check_drafts(drafts)
        if self._contracts is not None:
            checked = [await self._contracts.check(namespace, draft) for draft in checked]
        return await log.publish(*checked)

    # Consuming.

    async def consume(
        self, request: wire.ConsumeRequest, acks: AsyncIterator[wire.AckRequest]
    ) -> AsyncIterator[wire.Sent]:
        """Events as they are published; acknowledgements come back on the same stream."""
        log = self._log(request.topic, "consume")
        async with log.group(request.spec()) as group:
            sending = Sending(group, request, lambda: self._authorise(request.topic, "consume"))
            async with aclosing(sending.events(acks)) as events:
                async for event in events:
                    yield wire.sent(event)

    async def pull(
        self, request: wire.JoinRequest, asks: AsyncIterator[wire.Ask]
    ) -> AsyncIterator[wire.Piece]:
        """Be a member of a group: events are pulled and settled on the stream."""
        spec = request.spec
        log = self._log(spec.topic, "consume")
        async with log.group(spec) as group:
            yield _whole(wire.Reply())
            member = Member(group, lambda: self._authorise(spec.topic, "consume"))
            async with aclosing(member.replies(asks)) as replies:
                async for reply in replies:
                    for piece in wire.pieces(reply):
                        yield piece

    async def join(self, request: wire.JoinRequest) -> wire.Joined:
        """Make a group if there is none, and tell what the engine calls its consumers."""
        log = _joining(self._log(request.spec.topic, "consume"))
        return wire.Joined([*await log.join(request.spec)])

    # Reading.

    async def read(self, request: wire.ReadRequest) -> wire.ReadResponse:
        """Events of a topic or a pattern, in their order; fewer when they are large."""
        log = self._log(request.topic, "read")
        events = await log.read(
            request.topic,
            limit=request.limit or wire.DEFAULT_READ,
            offset=request.offset,
            after=request.after,
        )
        kept = _fitting(events, lambda event: event)
        return wire.ReadResponse([wire.sent(event) for event in kept])

    async def scan(self, request: wire.ReadRequest) -> AsyncIterator[wire.Piece]:
        """Events of a topic or a pattern, however large."""
        log = self._log(request.topic, "read")
        left, offset, after = request.limit or wire.DEFAULT_READ, request.offset, request.after
        while left > 0:
            limit = min(left, _PAGE)
            events = await log.read(request.topic, limit=limit, offset=offset, after=after)
            for event in events:
                for piece in wire.pieces(event):
                    yield piece
            if not events:
                return
            left, offset, after = left - len(events), 0, events[-1].sequence

    async def write(self, request: wire.WriteRequest) -> None:
        """Not offered, as in Micro: what is published is stored."""
        detail = "Store.Write is not offered: Stream.Publish stores what it publishes"
        raise errors.Unimplemented("events", detail)

    # Topics.

    async def topics(self, request: wire.Topic) -> wire.Topics:
        """The topics that the caller may read."""
        log = self._log_of(context.current().namespace)
        found = await log.topics(request.topic)
        return wire.Topics(self._readable(request.topic, found, lambda one: one.topic))

    async def inspect(self, request: wire.Topic) -> TopicState:
        """What is known of a topic, with its groups."""
        return await self._log(request.topic, "read").inspect(request.topic)

    async def create(self, request: wire.CreateRequest) -> None:
        """Make a topic, or change how long its events are kept."""
        await self._log(request.topic, "admin").create(request.topic, ttl=request.ttl)

    async def delete(self, request: wire.Topic) -> wire.Number:
        """Remove a topic with its events, dead letters and groups."""
        events = await self._log(request.topic, "admin").delete(request.topic)
        await self._audit("topic deleted", request.topic, f"{events} events")
        return wire.Number(events)

    async def purge(self, request: wire.PurgeRequest) -> wire.Number:
        """Forget events of a topic."""
        log = self._log(request.topic, "admin")
        events = await log.purge(request.topic, before=request.before, keep=request.keep)
        await self._audit("topic purged", request.topic, f"{events} events")
        return wire.Number(events)

    async def ttls(self) -> wire.Ttls:
        """How long the topics that the caller may publish to keep their events."""
        log = _joining(self._log_of(context.current().namespace))
        found = await log.ttls()
        return wire.Ttls(
            {topic: ttl for topic, ttl in found.items() if self._may(topic, "publish")}
        )

    # Groups.

    async def groups(self, request: wire.Topic) -> wire.Groups:
        """The groups of topics that the caller may read."""
        log = self._log_of(context.current().namespace)
        found = await log.groups(request.topic)
        return wire.Groups(self._readable(request.topic, found, lambda one: one.topic))

    async def reset(self, request: wire.ResetRequest) -> None:
        """Let a group begin again from somewhere; a service may do so with its own group."""
        log = self._log(request.topic, _verb(request.group))
        await log.reset(request.topic, request.group, request.start)
        await self._audit("group reset", f"{request.topic}/{request.group}", "")

    async def forget(self, request: wire.GroupName) -> None:
        """Remove a group; a service may do so with its own."""
        log = self._log(request.topic, _verb(request.group))
        await log.forget(request.topic, request.group)
        await self._audit("group deleted", f"{request.topic}/{request.group}", "")

    # Dead letters.

    async def dead(self, request: wire.LettersRequest) -> wire.Letters:
        """Dead letters, the oldest first; fewer when they are large."""
        log = self._log(request.topic, "read")
        found = await log.dead(
            request.topic,
            group=request.group,
            limit=request.limit or wire.DEFAULT_READ,
            after=request.after,
        )
        return wire.Letters(_fitting(found, lambda letter: letter.event))

    async def scan_dead(self, request: wire.LettersRequest) -> AsyncIterator[wire.Piece]:
        """Dead letters, however large."""
        log = self._log(request.topic, "read")
        left, after = request.limit or wire.DEFAULT_READ, request.after
        while left > 0:
            limit = min(left, _PAGE)
            found: list[DeadLetter] = await log.dead(
                request.topic, group=request.group, limit=limit, after=after
            )
            for letter in found:
                for piece in wire.pieces(letter):
                    yield piece
            if not found:
                return
            left, after = left - len(found), found[-1].number

    async def redrive(self, request: wire.RedriveRequest) -> wire.Number:
        """Give dead letters to their group again; a service may do so with its own group's."""
        log = self._log(request.topic, _verb(request.group))
        events = await log.redrive(request.topic, group=request.group, numbers=request.numbers)
        return wire.Number(events)

    # Schedules.

    async def schedule(self, request: Schedule) -> None:
        """Publish later, or again and again."""
        log = self._log(request.draft.topic, "publish")
        if self._contracts is not None:
            await self._contracts.check(context.current().namespace, request.draft)
        await log.schedule(request)

    async def schedules(self, request: wire.Topic) -> wire.Schedules:
        """The schedules of topics that the caller may read."""
        log = self._log_of(context.current().namespace)
        found = await log.schedules()
        return wire.Schedules(self._readable(request.topic, found, lambda one: one.draft.topic))

    async def unschedule(self, request: wire.ScheduleId) -> None:
        """Remove a schedule."""
        log = self._log_of(context.current().namespace)
        known = [one.draft.topic for one in await log.schedules() if one.id == request.id]
        # Who may not publish there is not told whether there is such a schedule.
        self._authorise(known[0] if known else ">", "publish" if known else "read")
        await log.unschedule(request.id)

    def _readable(self, pattern: str, found: Iterable[T], topic_of: Callable[[T], str]) -> list[T]:
        """Those of topics that the caller may read, of all that a pattern stands for.

        Raises:
            errors.Forbidden: the caller may read none of them.
        """
        try:
            self._authorise(pattern, "read")
        except errors.Forbidden as refused:
            kept = [one for one in found if self._may(topic_of(one), "read")]
            if not kept:
                raise refused from None
            return kept
        return list(found)

    def _may(self, topic: str, verb: str) -> bool:
        try:
            self._authorise(topic, verb)
        except errors.Forbidden:
            return False
        return True


def _endpoint(
    function: Callable[..., Any], name: str, metadata: dict[str, str] | None = None
) -> Endpoint:
    return endpoint(
        function, wire.NAME, name=name, lenient=True, access="account", metadata=metadata
    )


def _joining(log: Log) -> Joining:
    """A log as those have it who are let in at the engine.

    Raises:
        errors.Unimplemented: there is no engine.
    """
    if not hasattr(log, "join"):
        raise errors.Unimplemented("events", "there is no engine here: pull by Stream.Pull")
    return cast("Joining", log)


def _verb(group: str) -> str:
    """What it takes to change how far a group is: a service may do so with the one of its name."""
    account = cast("Account | None", context.current().account)
    own = account is not None and account.type == "service" and account.id == group
    return "consume" if group and own else "admin"


def _whole(reply: wire.Reply) -> wire.Piece:
    (piece,) = wire.pieces(reply)
    return piece


def _fitting(found: Sequence[T], event_of: Callable[[T], Event]) -> list[T]:
    """As many as an answer of rpc can carry.

    Raises:
        errors.TooLarge: it cannot even carry the first one.
    """
    size = 0
    kept: list[T] = []
    for one in found:
        event = event_of(one)
        size += len(event.payload) + sum(len(k) + len(v) for k, v in event.metadata.items())
        if size > wire.MAX_REMOTE:
            if not kept:
                raise _too_large(event)
            break
        kept.append(one)
    return kept


def _too_large(event: Event) -> errors.TooLarge:
    return errors.TooLarge(
        "events",
        f"event {event.id} of {event.topic} has {len(event.payload)} bytes; one answer carries "
        f"{wire.MAX_REMOTE}: read it by `micro events read` or in a service, or leave it out by "
        "offset",
    )
