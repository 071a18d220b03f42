"""Publishing, now and later."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors
from microcosmos.events import wire
from microcosmos.events.interface import PUBLISH_PATIENCE, Draft, Receipt, Schedule

from .session import Session, ask
from .times import moment, rfc3339

F = TypeVar("F", bound=Callable[..., Any])

_QUOTES = "a text has quotes, as in '\"hello\"', or take --raw"


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


@click.command(short_help="Publish an event", context_settings={"ignore_unknown_options": True})
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
        timestamp=moment(timestamp, "--timestamp") if timestamp else 0,
        ttl=session.duration(ttl, "--ttl"),
    )
    when = _when(session, at, delay, every, cron)
    if not when:
        if zone or name:
            raise click.UsageError("--zone and --name are for --at, --delay, --every and --cron")
        return _publish(session, draft)
    schedule = Planned(name or str(uuid.uuid4()), draft, when, zone)
    ask(session, "Schedules.Create", schedule)
    return schedule


def _publish(session: Session, draft: Draft) -> Published:
    if len(draft.payload) > wire.MAX_REMOTE:
        detail = f"{len(draft.payload)} bytes: the command line publishes {wire.MAX_REMOTE} at most"
        raise click.UsageError(f"{detail}; a service publishes more, and larger things are blobs")
    # Named here, so that an answer that was lost and asked for again is not another event.
    named = msgspec.structs.replace(draft, id=draft.id or str(uuid.uuid4()))
    answer = ask(session, "Stream.Append", wire.Drafts([named]), timeout=PUBLISH_PATIENCE + 5)
    (receipt,) = msgspec.json.decode(answer, type=wire.Receipts).receipts
    return Published(receipt.id, receipt.sequence, receipt.duplicate and bool(draft.id))


def _payload(text: str, raw: bool) -> bytes:
    payload = sys.stdin.buffer.read() if text == "-" else text.encode()
    if not raw:
        try:
            codec.decode(payload)
        except errors.BadRequest as error:
            what = "the standard input" if text == "-" else repr(text[:40])
            detail = f"{what} is no JSON: {error.detail}"
            raise click.UsageError(f"{detail}; {_QUOTES}") from None
    return payload


def _when(session: Session, at: str, delay: str, every: str, cron: str) -> str:
    """When an event is published, as schedules say it; empty is at once."""
    if sum(map(bool, (at, delay, every, cron))) > 1:
        raise click.UsageError("give one of --at, --delay, --every and --cron")
    if at:
        return f"@at {rfc3339(moment(at, '--at'))}"
    if delay:
        return f"@at {rfc3339(time.time() + session.duration(delay, '--delay'))}"
    if every:
        return f"@every {session.duration(every, '--every'):g}s"
    return cron
