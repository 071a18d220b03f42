"""`micro events`: publish, consume and read events, and look after topics."""

from __future__ import annotations

import base64
import datetime
import queue
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors

from . import wire
from .interface import (
    BEGINNING,
    MAX_PAYLOAD,
    NEW,
    PUBLISH_PATIENCE,
    DeadLetter,
    Draft,
    Event,
    GroupState,
    Receipt,
    Schedule,
    Start,
    TopicState,
)
from .schema.cli import schema

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 200
"""Characters of a payload in a table; what is longer is cut, and whole with ``--output json``."""

_QUOTES = "a text has quotes, as in '\"hello\"', or take --raw"
_LARGEST = (MAX_PAYLOAD + 1024 * 1024) * 4 // 3 + wire.PIECE


class Caller(Protocol):
    """Opens streams."""

    def stream(
        self, service: str, endpoint: str, body: bytes, *, items: Iterable[bytes] = ()
    ) -> Iterator[bytes]: ...


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    @property
    def caller(self) -> Caller: ...

    def core(
        self, service: str, endpoint: str, request: Any = None, *, timeout: float = 10.0
    ) -> bytes: ...

    def duration(self, text: str, where: str) -> float: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...


@click.group()
def events() -> None:
    """Publish, consume and read events, and look after topics.

    A topic is parts with dots between them, such as orders.placed. Where a PATTERN is taken, *
    stands for any one part, and a last > for all that follow.
    """


events.add_command(schema)


# Publishing.


class Published(Receipt, frozen=True):
    """What became of an event that was published."""

    def readable(self) -> str:
        """Its id."""
        return f"{self.id} (was there already)" if self.duplicate else self.id


class Planned(Schedule, frozen=True):
    """A schedule that was made."""

    def readable(self) -> str:
        """Its name and when."""
        return f"{self.id} {self.when}{f' {self.zone}' if self.zone else ''}"


def _later(function: F) -> F:
    """The flags that say that an event is published later."""
    for option in (
        click.option("--name", default="", help="Of the schedule; else a new one."),
        click.option("--zone", default="", help="Of cron's hours, such as Europe/Berlin; or UTC."),
        click.option("--cron", default="", help="Again and again: '0 3 * * *', or @daily."),
        click.option("--every", default="", metavar="duration", help="Again and again."),
        click.option("--delay", default="", metavar="duration", help="Once, so much later."),
        click.option("--at", default="", metavar="time", help="Once, at 2026-01-31T12:00:00Z."),
    ):
        function = option(function)
    return function


@events.command(short_help="Publish an event", context_settings={"ignore_unknown_options": True})
@click.argument("topic")
@click.argument("payload", metavar="JSON")
@click.option("--key", default="", help="Events of one key are in order.")
@click.option("--metadata", multiple=True, metavar="key=value", help="Goes beside the event.")
@click.option("--id", default="", help="Its name; published twice it is stored once.")
@click.option("--ttl", default="0", metavar="duration", help="Forgotten after; 0 is never.")
@click.option("--timestamp", default="", metavar="time", help="When it happened; else now.")
@click.option("--raw", is_flag=True, help="The payload is no JSON: take it as it is.")
@_later
@click.pass_obj
def publish(
    session: Session,
    /,
    topic: str,
    payload: str,
    key: str,
    metadata: tuple[str, ...],
    id: str,
    ttl: str,
    timestamp: str,
    raw: bool,
    at: str,
    delay: str,
    every: str,
    cron: str,
    zone: str,
    name: str,
) -> Published | Planned:
    """Publish an event, and print its id once it is stored; `-` reads it from standard input.

    With --at, --delay, --every or --cron it is published then, and the schedule is printed.
    """
    draft = Draft(
        topic,
        _payload(payload, raw),
        id=id,
        key=key,
        metadata=session.pairs("--metadata", metadata),
        timestamp=_time(timestamp, "--timestamp") if timestamp else 0,
        ttl=session.duration(ttl, "--ttl"),
    )
    when = _when(session, at, delay, every, cron)
    if not when:
        if zone or name:
            raise click.UsageError("--zone and --name are for --at, --delay, --every and --cron")
        return _publish(session, draft)
    schedule = Planned(name or str(uuid.uuid4()), draft, when, zone)
    _ask(session, "Schedules.Create", schedule)
    return schedule


def _publish(session: Session, draft: Draft) -> Published:
    if len(draft.payload) > wire.MAX_REMOTE:
        detail = f"{len(draft.payload)} bytes: the command line publishes {wire.MAX_REMOTE} at most"
        raise click.UsageError(f"{detail}; a service publishes more, and larger things are blobs")
    # Named here, so that an answer that was lost and asked for again is not another event.
    named = msgspec.structs.replace(draft, id=draft.id or str(uuid.uuid4()))
    answer = _ask(session, "Stream.Append", wire.Drafts([named]), timeout=PUBLISH_PATIENCE + 5)
    (receipt,) = msgspec.json.decode(answer, type=wire.Receipts).receipts
    return Published(receipt.id, receipt.sequence, receipt.duplicate and bool(draft.id))


def _payload(text: str, raw: bool) -> bytes:
    payload = sys.stdin.buffer.read() if text == "-" else text.encode()
    if not raw:
        try:
            codec.decode(payload)
        except errors.BadRequest as error:
            detail = f"{text[:40]!r} is no JSON: {error.detail}"
            raise click.UsageError(f"{detail}; {_QUOTES}") from None
    return payload


def _when(session: Session, at: str, delay: str, every: str, cron: str) -> str:
    """When an event is published, as schedules say it; empty is at once."""
    if sum(map(bool, (at, delay, every, cron))) > 1:
        raise click.UsageError("give one of --at, --delay, --every and --cron")
    if at:
        return f"@at {_rfc3339(_time(at, '--at'))}"
    if delay:
        return f"@at {_rfc3339(time.time() + session.duration(delay, '--delay'))}"
    if every:
        return f"@every {session.duration(every, '--every'):g}s"
    return cron


def _rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _time(text: str, where: str) -> float:
    """A time in seconds since the epoch, of such a number or of RFC 3339.

    Raises:
        click.UsageError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        detail = f"{text[:40]!r} is no time; write it like 2026-01-31T12:00:00Z"
        raise click.UsageError(f"{where}: {detail}, or in seconds since 1970")
    return moment.timestamp()


# Reading and consuming.


class Shown(msgspec.Struct, omit_defaults=True):
    """An event as these commands print it: the payload as JSON, if it is any."""

    HEADINGS: ClassVar = ("SEQUENCE", "ID", "TOPIC", "KEY", "UPDATED", "PAYLOAD")

    id: str
    topic: str
    timestamp: float
    payload: Any = msgspec.UNSET
    encoding: str = ""
    metadata: dict[str, str] = {}
    key: str = ""
    sequence: int = 0
    schema: int = 0

    def cells(self) -> list[Any]:
        """A line of a table."""
        when = datetime.datetime.fromtimestamp(self.timestamp, datetime.UTC)
        text = self.payload if self.encoding else bytes(self.payload).decode("utf-8", "replace")
        cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
        return [self.sequence, self.id, self.topic, self.key, when, cut]


def shown(event: Event) -> Shown:
    """An event for printing."""
    payload: Any
    try:
        payload, encoding = msgspec.Raw(_compact(event.payload)), ""
    except (*codec.DECODE_ERRORS, ValueError):
        payload, encoding = base64.b64encode(event.payload).decode(), "base64"
    return Shown(
        event.id,
        event.topic,
        whole if (whole := int(event.timestamp)) == event.timestamp else event.timestamp,
        payload,
        encoding,
        event.metadata,
        event.key,
        event.sequence,
        event.schema,
    )


def _compact(payload: bytes) -> bytes:
    """The JSON of a payload on one line; it raises what decoding does if it is none."""
    msgspec.json.decode(payload)
    return msgspec.json.format(payload, indent=-1)


@events.command(short_help="Print events")
@click.argument("topic", metavar="PATTERN")
@click.option("--limit", "-l", type=click.IntRange(1), default=wire.DEFAULT_READ, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip so many first.")
@click.option("--after", type=click.IntRange(0), default=0, help="Those after a sequence.")
@click.pass_obj
def read(session: Session, topic: str, limit: int, offset: int, after: int) -> list[Shown] | None:
    """Print events of a topic, the oldest first, and leave them where they are."""
    request = wire.ReadRequest(topic=topic, limit=limit, offset=offset, after=after)
    found = [shown(event) for event in _scan(session, "Store.Scan", request, Event)]
    return found if found or session.output == "json" else None


@events.command(short_help="Print events as they are published")
@click.argument("topic", metavar="PATTERN")
@click.option("--group", "-g", default="", help="Share them with others, and remember the place.")
@click.option("--offset", default="new", help="Where to begin: new, beginning, or a time.")
@click.option("--sequence", type=click.IntRange(1), help="Begin with this one.")
@click.option("--ordered", is_flag=True, help="Those of one key one after another, in the group.")
@click.option("--limit", "-l", type=click.IntRange(0), default=0, help="So many, then end.")
@click.pass_obj
def consume(
    session: Session,
    topic: str,
    group: str,
    offset: str,
    sequence: int | None,
    ordered: bool,
    limit: int,
) -> Iterator[Shown]:
    """Print events as they are published, one JSON a line, until Ctrl-C.

    In a group each event goes to one of its members, and is done with once it was printed. A
    group that there is goes on where it was, whatever the flags say.
    """
    request = wire.ConsumeRequest(
        topic=topic,
        group=group,
        auto_ack=not group,
        start=_start(offset, sequence),
        ordered=ordered,
        limit=limit,
    )
    acks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    items = iter(acks.get, b"") if group else ()
    messages = session.caller.stream(
        wire.NAME, "Stream.Consume", codec.encode(request), items=items
    )
    return _consumed(messages, acks)


def _consumed(messages: Iterator[bytes], acks: queue.SimpleQueue[bytes]) -> Iterator[Shown]:
    try:
        for message in messages:
            sent = msgspec.json.decode(message, type=wire.Sent)
            event = Event(
                sent.id,
                sent.topic,
                sent.metadata,
                sent.timestamp,
                sent.payload,
                sent.key,
                sent.sequence,
                sent.schema,
            )
            yield shown(event)
            # Asked for the next one: this one was printed.
            acks.put(codec.encode(wire.AckRequest(sent.id, success=True)))
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
    finally:
        acks.put(b"")


def _start(offset: str, sequence: int | None, flag: str = "--offset") -> Start:
    if sequence:
        if offset != "new":
            raise click.UsageError(f"give one of {flag} and --sequence")
        return Start(sequence=sequence)
    if offset in ("new", "beginning"):
        return NEW if offset == "new" else BEGINNING
    return Start(time=_time(offset, flag))


# Topics.


class TopicRow(msgspec.Struct):
    """A line of `micro events topics`."""

    topic: str
    events: int
    dead: int
    ttl: str


@events.command(short_help="List the topics")
@click.argument("pattern", default=">", metavar="[PATTERN]")
@click.pass_obj
def topics(session: Session, pattern: str) -> list[TopicState] | list[TopicRow] | None:
    """List the topics that have events or were created."""
    answer = _ask(session, "Topics.List", wire.Topic(topic=pattern))
    found = msgspec.json.decode(answer, type=wire.Topics).topics
    if session.output == "json":
        return found
    return [TopicRow(one.topic, one.events, one.dead, _kept(one.ttl)) for one in found] or None


class Inspected(TopicState, frozen=True):
    """What is known of a topic, for people."""

    def readable(self) -> str:
        """A line each, then its groups."""
        facts = {
            "topic": self.topic,
            "events": self.events,
            "sequences": f"{self.first} to {self.last}" if self.last else "n/a",
            "dead letters": self.dead,
            "ttl": _kept(self.ttl),
            "durability": self.durability or "n/a",
        }
        lines = [f"{name + ':':14}{value}" for name, value in facts.items()]
        for group in self.groups:
            how = ", ordered" if group.ordered else ""
            state = f"{group.lag} waiting, {group.pending} in work, {group.members} members{how}"
            of = "" if group.topic == self.topic else f" of {group.topic}"
            lines.append(f"{'group:':14}{group.name}{of}: {state}")
        return "\n".join(lines)


@events.command(short_help="Show a topic, its groups and its durability")
@click.argument("topic")
@click.pass_obj
def inspect(session: Session, topic: str) -> Inspected:
    """Show what is known of a topic: events, dead letters, groups, and what its events survive."""
    return msgspec.json.decode(
        _ask(session, "Topics.Inspect", wire.Topic(topic=topic)), type=Inspected
    )


@events.command(short_help="Make a topic, or change how long events are kept")
@click.argument("topic")
@click.option("--ttl", default="0", metavar="duration", help="Events are kept for; 0 is for ever.")
@click.pass_obj
def create(session: Session, topic: str, ttl: str) -> str:
    """Make a topic, or change how long its events are kept from now on.

    A topic need not be made before something is published to it.
    """
    request = wire.CreateRequest(topic=topic, ttl=session.duration(ttl, "--ttl"))
    _ask(session, "Topics.Create", request)
    return f"Topic {topic}: events are kept {_kept(request.ttl)}."


_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@events.command(short_help="Remove a topic, or a group")
@click.argument("topic")
@click.option("--group", "-g", default="", help="Remove this group only.")
@_yes
@click.pass_obj
def delete(session: Session, topic: str, group: str, yes: bool) -> str:
    """Remove a topic with its events, dead letters and groups; with --group only that one."""
    what = f"group {group} of {topic}" if group else f"topic {topic} with all of its events"
    _confirm(f"Remove {what}?", yes)
    if group:
        _ask(session, "Groups.Delete", wire.GroupName(topic=topic, group=group))
        return f"Group {group} of {topic} is removed."
    removed = _number(_ask(session, "Topics.Delete", wire.Topic(topic=topic)))
    return f"Topic {topic} is removed, with {_events(removed)}."


@events.command(short_help="Forget events of a topic")
@click.argument("topic", metavar="PATTERN")
@click.option("--before", type=click.IntRange(1), default=None, help="Those before a sequence.")
@click.option("--keep", type=click.IntRange(1), default=None, help="All but the newest so many.")
@_yes
@click.pass_obj
def purge(session: Session, topic: str, before: int | None, keep: int | None, yes: bool) -> str:
    """Forget events of a topic: all, those before a sequence, or all but the newest."""
    if before and keep:
        raise click.UsageError("give one of --before and --keep")
    part = f"before {before}" if before else f"but the newest {keep}" if keep else ""
    _confirm(f"Forget all events of {topic}{f' {part}' if part else ''}?", yes)
    request = wire.PurgeRequest(topic=topic, before=before or 0, keep=keep or 0)
    forgotten = _number(_ask(session, "Topics.Purge", request))
    return f"{_events(forgotten)} of {topic} forgotten."


# Groups.


class GroupRow(msgspec.Struct):
    """A line of `micro events groups`."""

    name: str
    topic: str
    ordered: str
    lag: int
    pending: int
    members: int


@events.command(short_help="List the groups, and how far behind they are")
@click.argument("pattern", default=">", metavar="[PATTERN]")
@click.pass_obj
def groups(session: Session, pattern: str) -> list[GroupState] | list[GroupRow] | None:
    """List the groups: LAG is what was not given out yet, PENDING what members have."""
    answer = _ask(session, "Groups.List", wire.Topic(topic=pattern))
    found = msgspec.json.decode(answer, type=wire.Groups).groups
    if session.output == "json":
        return found
    return [
        GroupRow(
            one.name,
            one.topic,
            "yes" if one.ordered else "no",
            one.lag,
            one.pending,
            one.members,
        )
        for one in found
    ] or None


@events.command(short_help="Let a group begin again from somewhere")
@click.argument("topic", metavar="PATTERN")
@click.option("--group", "-g", required=True, help="Which.")
@click.option("--from", "offset", default="beginning", help="beginning, new, or a time.")
@click.option("--sequence", type=click.IntRange(1), help="From this one on.")
@click.pass_obj
def replay(session: Session, topic: str, group: str, offset: str, sequence: int | None) -> str:
    """Let a group work off events again, from the beginning unless something else is said."""
    if sequence and offset == "beginning":
        offset = "new"
    start = _start(offset, sequence, "--from")
    _ask(session, "Groups.Reset", wire.ResetRequest(topic=topic, group=group, start=start))
    place = f"sequence {sequence}" if sequence else offset
    return f"Group {group} of {topic} goes on from {place}."


# Dead letters.


class LetterRow(msgspec.Struct):
    """A line of `micro events deadletter`."""

    number: int
    topic: str
    group: str
    attempts: int
    updated: datetime.datetime
    id: str
    reason: str


class ShownLetter(msgspec.Struct):
    """A dead letter as JSON."""

    number: int
    group: str
    reason: str
    attempts: int
    time: float
    event: Shown


@events.command(short_help="List what groups could not work off, and why")
@click.argument("topic", default=">", metavar="[PATTERN]")
@click.option("--group", "-g", default="", help="Of this group.")
@click.option("--limit", "-l", type=click.IntRange(1), default=wire.DEFAULT_READ, help="How many.")
@click.option("--after", type=click.IntRange(0), default=0, help="Those after a number.")
@click.pass_obj
def deadletter(
    session: Session, topic: str, group: str, limit: int, after: int
) -> list[LetterRow] | list[ShownLetter] | None:
    """List dead letters, the oldest first: with --output json also what is in them."""
    request = wire.LettersRequest(topic=topic, group=group, limit=limit, after=after)
    found = [*_scan(session, "DeadLetters.Scan", request, DeadLetter)]
    if session.output == "json":
        return [
            ShownLetter(one.number, one.group, one.reason, one.attempts, one.time, shown(one.event))
            for one in found
        ]
    return [_letter(one) for one in found] or None


def _letter(letter: DeadLetter) -> LetterRow:
    when = datetime.datetime.fromtimestamp(letter.time, datetime.UTC)
    event = letter.event
    return LetterRow(
        letter.number, event.topic, letter.group, letter.attempts, when, event.id, letter.reason
    )


@events.command(short_help="Give dead letters to their groups again")
@click.argument("topic", metavar="PATTERN")
@click.argument("numbers", type=click.IntRange(1), nargs=-1, metavar="[NUMBER]...")
@click.option("--group", "-g", default="", help="Those of this group.")
@click.pass_obj
def redrive(session: Session, topic: str, numbers: tuple[int, ...], group: str) -> str:
    """Give dead letters to their group again, and to no other: all of a topic, or those named."""
    request = wire.RedriveRequest(topic=topic, group=group, numbers=[*numbers])
    given = _number(_ask(session, "DeadLetters.Redrive", request, timeout=PUBLISH_PATIENCE + 5))
    return f"{_events(given)} of {topic} given out again."


# Schedules.


class ScheduleRow(msgspec.Struct):
    """A line of `micro events schedules`."""

    id: str
    topic: str
    when: str
    zone: str


@events.command(short_help="List what is published later")
@click.pass_obj
def schedules(session: Session) -> list[Schedule] | list[ScheduleRow] | None:
    """List the events that are published later, or again and again."""
    answer = _ask(session, "Schedules.List", wire.Topic())
    found = msgspec.json.decode(answer, type=wire.Schedules).schedules
    if session.output == "json":
        return found
    return [ScheduleRow(one.id, one.draft.topic, one.when, one.zone) for one in found] or None


@events.command(short_help="Remove a schedule")
@click.argument("id")
@click.pass_obj
def unschedule(session: Session, id: str) -> str:
    """Remove a schedule: what it has published stays."""
    _ask(session, "Schedules.Delete", wire.ScheduleId(id))
    return f"Schedule {id} is removed."


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


def _ask(session: Session, endpoint: str, request: Any, *, timeout: float = 10.0) -> bytes:
    try:
        return session.core(wire.NAME, endpoint, request, timeout=timeout)
    except errors.BadRequest as error:
        # A topic, a time or a name that cannot be is a word of the command line.
        raise click.UsageError(error.detail) from None


def _scan(session: Session, endpoint: str, request: Any, kind: type[T]) -> Iterator[T]:
    whole = wire.Whole(kind, _LARGEST)
    try:
        for message in session.caller.stream(wire.NAME, endpoint, codec.encode(request)):
            piece = msgspec.json.decode(message, type=wire.Piece)
            if (found := whole.add(piece)) is not None:
                yield found
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None


def _number(answer: bytes) -> int:
    return msgspec.json.decode(answer, type=wire.Number).events


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _kept(ttl: float) -> str:
    return f"{ttl:g}s" if ttl else "for ever"
