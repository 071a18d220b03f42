"""`micro events`: publish, consume and read events, and look after topics."""

from __future__ import annotations

import click

from microcosmos.events.schema.cli import schema

from .groups import groups, replay
from .letters import deadletter, redrive
from .publishing import publish
from .reading import consume, read
from .schedules import schedules, unschedule
from .topics import create, delete, inspect, purge, topics


@click.group()
def events() -> None:
    """Publish, consume and read events, and look after topics.

    A topic is parts with dots between them, such as orders.placed. Where a PATTERN is taken, *
    stands for any one part, and a last > for all that follow.
    """


for _command in (
    *(publish, read, consume, topics, inspect, create, delete, purge, groups, replay),
    *(deadletter, redrive, schedules, unschedule, schema),
):
    events.add_command(_command)
