"""Reading and consuming."""

from __future__ import annotations

import base64
import datetime
import queue
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import click
import msgspec
from msgspec.structs import replace

from microcosmos.base import codec, errors
from microcosmos.events import wire
from microcosmos.events.interface import NEW, Event, Start

from .session import Session, scan
from .times import starting

SHOWN = 200
"""Characters of a payload in a table; what is longer is cut, and whole with ``--output json``."""


SHORTEST = 1.0
"""Seconds that a stream lasts at least whose token was new: a second shorter one is refused."""


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


@click.command(short_help="Print events")
@click.argument("topic", metavar="PATTERN")
@click.option("--limit", "-l", type=click.IntRange(1), default=wire.DEFAULT_READ, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip so many first.")
@click.option("--after", type=click.IntRange(0), default=0, help="Those after a sequence.")
@click.pass_obj
def read(session: Session, topic: str, limit: int, offset: int, after: int) -> list[Shown] | None:
    """Print events of a topic, the oldest first, and leave them where they are."""
    request = wire.ReadRequest(topic=topic, limit=limit, offset=offset, after=after)
    found = [shown(event) for event in scan(session, "Store.Scan", request, Event)]
    return found if found or session.output == "json" else None


@click.command(short_help="Print events as they are published")
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
        start=starting(offset, sequence),
        ordered=ordered,
        limit=limit,
    )
    return _consumed(session, request)


def _consumed(session: Session, request: wire.ConsumeRequest) -> Iterator[Shown]:
    """The events of a stream, and of the next one when its token has ended and is renewed."""
    hasty = False
    while True:
        began = time.time()
        printed = 0
        try:
            for event in _streamed(session, request):
                printed += 1
                yield event
                if not request.group:
                    request = replace(request, start=Start(sequence=event.sequence + 1))
            return
        except errors.Unauthorized as error:
            # The first token may have been about to end; the next one was made for this stream.
            again, hasty = hasty, time.time() - began < SHORTEST
            if "expired" not in error.detail or (again and hasty):
                raise
        except errors.BadRequest as error:
            raise click.UsageError(error.detail) from None
        if request.start == NEW:
            request = replace(request, start=Start(time=began))
        request = replace(request, limit=request.limit and request.limit - printed)


def _streamed(session: Session, request: wire.ConsumeRequest) -> Iterator[Shown]:
    acks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    items = iter(acks.get, b"") if request.group else ()
    body = codec.encode(request)
    try:
        for message in session.caller.stream(wire.NAME, "Stream.Consume", body, items=items):
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
    finally:
        acks.put(b"")
