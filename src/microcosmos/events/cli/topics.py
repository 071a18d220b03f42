"""Topics: what there is, and what becomes of it."""

from __future__ import annotations

import sys

import click
import msgspec

from microcosmos.events import wire
from microcosmos.events.interface import TopicState

from .session import Session, ask, counted, kept, number


class TopicRow(msgspec.Struct):
    """A line of `micro events topics`."""

    topic: str
    events: int
    dead: int
    ttl: str


@click.command(short_help="List the topics")
@click.argument("pattern", default=">", metavar="[PATTERN]")
@click.pass_obj
def topics(session: Session, pattern: str) -> list[TopicState] | list[TopicRow] | None:
    """List the topics that have events or were created."""
    answer = ask(session, "Topics.List", wire.Topic(topic=pattern))
    found = msgspec.json.decode(answer, type=wire.Topics).topics
    if session.output == "json":
        return found
    return [TopicRow(one.topic, one.events, one.dead, kept(one.ttl)) for one in found] or None


class Inspected(TopicState, frozen=True):
    """What is known of a topic, for people."""

    def readable(self) -> str:
        """A line each, then its groups."""
        facts = {
            "topic": self.topic,
            "events": self.events,
            "sequences": f"{self.first} to {self.last}" if self.last else "n/a",
            "dead letters": self.dead,
            "ttl": kept(self.ttl),
            "durability": self.durability or "n/a",
        }
        lines = [f"{name + ':':14}{value}" for name, value in facts.items()]
        for group in self.groups:
            how = ", ordered" if group.ordered else ""
            state = f"{group.lag} waiting, {group.pending} in work, {group.members} members{how}"
            of = "" if group.topic == self.topic else f" of {group.topic}"
            lines.append(f"{'group:':14}{group.name}{of}: {state}")
        return "\n".join(lines)


@click.command(short_help="Show a topic, its groups and its durability")
@click.argument("topic")
@click.pass_obj
def inspect(session: Session, topic: str) -> Inspected:
    """Show what is known of a topic: events, dead letters, groups, and what its events survive."""
    return msgspec.json.decode(
        ask(session, "Topics.Inspect", wire.Topic(topic=topic)), type=Inspected
    )


@click.command(short_help="Make a topic, or change how long events are kept")
@click.argument("topic")
@click.option("--ttl", default="0", metavar="duration", help="Events are kept for; 0 is for ever.")
@click.pass_obj
def create(session: Session, topic: str, ttl: str) -> str:
    """Make a topic, or change how long its events are kept from now on.

    A topic need not be made before something is published to it.
    """
    request = wire.CreateRequest(topic=topic, ttl=session.duration(ttl, "--ttl"))
    ask(session, "Topics.Create", request)
    return f"Topic {topic}: events are kept {kept(request.ttl)}."


_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@click.command(short_help="Remove a topic, or a group")
@click.argument("topic")
@click.option("--group", "-g", default="", help="Remove this group only.")
@_yes
@click.pass_obj
def delete(session: Session, topic: str, group: str, yes: bool) -> str:
    """Remove a topic with its events, dead letters and groups; with --group only that one."""
    what = f"group {group} of {topic}" if group else f"topic {topic} with all of its events"
    _confirm(f"Remove {what}?", yes)
    if group:
        ask(session, "Groups.Delete", wire.GroupName(topic=topic, group=group))
        return f"Group {group} of {topic} is removed."
    removed = number(ask(session, "Topics.Delete", wire.Topic(topic=topic)))
    return f"Topic {topic} is removed, with {counted(removed)}."


@click.command(short_help="Forget events of a topic")
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
    forgotten = number(ask(session, "Topics.Purge", request))
    return f"{counted(forgotten)} of {topic} forgotten."


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        # The question stands on a line that nobody has ended.
        click.echo(err=True)
        raise click.UsageError("there is no terminal to ask at; give --yes") from None
