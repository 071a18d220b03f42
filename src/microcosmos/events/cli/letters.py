"""Dead letters: what groups could not work off."""

from __future__ import annotations

import datetime

import click
import msgspec

from microcosmos.events import wire
from microcosmos.events.interface import PUBLISH_PATIENCE, DeadLetter

from .reading import Shown, shown
from .session import Session, ask, counted, number, scan


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


@click.command(short_help="List what groups could not work off, and why")
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
    found = [*scan(session, "DeadLetters.Scan", request, DeadLetter)]
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


@click.command(short_help="Give dead letters to their groups again")
@click.argument("topic", metavar="PATTERN")
@click.argument("numbers", type=click.IntRange(1), nargs=-1, metavar="[NUMBER]...")
@click.option("--group", "-g", default="", help="Those of this group.")
@click.pass_obj
def redrive(session: Session, topic: str, numbers: tuple[int, ...], group: str) -> str:
    """Give dead letters to their group again, and to no other: all of a topic, or those named."""
    request = wire.RedriveRequest(topic=topic, group=group, numbers=[*numbers])
    given = number(ask(session, "DeadLetters.Redrive", request, timeout=PUBLISH_PATIENCE + 5))
    return f"{counted(given)} of {topic} given out again."
