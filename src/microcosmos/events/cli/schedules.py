"""Schedules: what is published later."""

from __future__ import annotations

import click
import msgspec

from microcosmos.events import wire
from microcosmos.events.interface import Schedule

from .session import Session, ask


class ScheduleRow(msgspec.Struct):
    """A line of `micro events schedules`."""

    id: str
    topic: str
    when: str
    zone: str


@click.command(short_help="List what is published later")
@click.pass_obj
def schedules(session: Session) -> list[Schedule] | list[ScheduleRow] | None:
    """List the events that are published later, or again and again."""
    answer = ask(session, "Schedules.List", wire.Topic())
    found = msgspec.json.decode(answer, type=wire.Schedules).schedules
    if session.output == "json":
        return found
    return [ScheduleRow(one.id, one.draft.topic, one.when, one.zone) for one in found] or None


@click.command(short_help="Remove a schedule")
@click.argument("id")
@click.pass_obj
def unschedule(session: Session, id: str) -> str:
    """Remove a schedule: what it has published stays."""
    ask(session, "Schedules.Delete", wire.ScheduleId(id))
    return f"Schedule {id} is removed."
