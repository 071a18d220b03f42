"""Groups, how far they are, and where they begin again."""

from __future__ import annotations

import click
import msgspec

from microcosmos.events import wire
from microcosmos.events.interface import GroupState

from .session import Session, ask
from .times import starting


class GroupRow(msgspec.Struct):
    """A line of `micro events groups`."""

    name: str
    topic: str
    ordered: str
    lag: int
    pending: int
    members: int


@click.command(short_help="List the groups, and how far behind they are")
@click.argument("pattern", default=">", metavar="[PATTERN]")
@click.pass_obj
def groups(session: Session, pattern: str) -> list[GroupState] | list[GroupRow] | None:
    """List the groups: LAG is what was not given out yet, PENDING what members have."""
    answer = ask(session, "Groups.List", wire.Topic(topic=pattern))
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


@click.command(short_help="Let a group begin again from somewhere")
@click.argument("topic", metavar="PATTERN")
@click.option("--group", "-g", required=True, help="Which.")
@click.option("--from", "offset", default="beginning", help="beginning, new, or a time.")
@click.option("--sequence", type=click.IntRange(1), help="From this one on.")
@click.pass_obj
def replay(session: Session, topic: str, group: str, offset: str, sequence: int | None) -> str:
    """Let a group work off events again, from the beginning unless something else is said."""
    if sequence and offset == "beginning":
        offset = "new"
    start = starting(offset, sequence, "--from")
    ask(session, "Groups.Reset", wire.ResetRequest(topic=topic, group=group, start=start))
    place = f"sequence {sequence}" if sequence else offset
    return f"Group {group} of {topic} goes on from {place}."
