"""Schedules: messages in the log's own stream, which the engine publishes when it is time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import nats.errors

from microcosmos.base import errors
from microcosmos.events.checks import check_name
from microcosmos.events.interface import Draft, Schedule
from microcosmos.events.schedule import check_schedule

from .api import BATCH, PATIENCE, Api, Found, Refused, unavailable
from .layout import (
    GROUP,
    HEADROOM,
    SCHEDULE_SUBJECT,
    STREAM,
    TIMESTAMP,
    check_size,
    event_of,
    headers_of,
    number,
    schedule_id,
    schedule_subject,
    subject,
    topic_of,
)

_WHEN = "Nats-Schedule"
_TARGET = "Nats-Schedule-Target"
_ZONE = "Nats-Schedule-Time-Zone"
_TTL = "Nats-Schedule-TTL"


class Schedules:
    """The schedules of a namespace.

    Args:
        api: the engine.
        ttl: how long the events of a topic are kept unless they say so themselves.
    """

    def __init__(self, api: Api, ttl: Callable[[str], float]) -> None:
        self._api = api
        self._ttl = ttl

    async def write(self, schedule: Schedule) -> None:
        """See `interface.Log.schedule`."""
        checked = check_schedule(schedule)
        draft = checked.draft
        headers = headers_of(draft)
        headers[_WHEN] = checked.when
        headers[_TARGET] = subject(draft.topic, draft.key)
        if checked.zone:
            headers[_ZONE] = checked.zone
        if ttl := draft.ttl or self._ttl(draft.topic):
            headers[_TTL] = f"{ttl:.0f}s"
        nc = self._api.nc
        check_size(draft.payload, headers, nc.max_payload - HEADROOM)
        if not nc.is_connected:
            raise errors.Unavailable("events", "the engine cannot be reached")
        where = schedule_subject(checked.id)
        try:
            answer = await nc.request(where, draft.payload, timeout=PATIENCE, headers=headers)
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            raise unavailable(exc) from None
        if error := msgspec.json.decode(answer.data).get("error"):
            raise Refused(error).error

    async def read(self) -> list[Schedule]:
        """See `interface.Log.schedules`."""
        found: list[Schedule] = []
        after = 0
        while page := await self._api.read(STREAM, after, BATCH, f"{SCHEDULE_SUBJECT}>"):
            after = page[-1].sequence
            found.extend(_schedule(one) for one in page if _TARGET in one.headers)
        return sorted(found, key=lambda one: one.id)

    async def remove(self, id: str) -> None:
        """See `interface.Log.unschedule`."""
        check_name("id of a schedule", id)
        said = await self._api.ask(f"STREAM.PURGE.{STREAM}", {"filter": schedule_subject(id)})
        if not said.get("purged"):
            raise errors.NotFound("events", f"no schedule {id}")


def _schedule(found: Found) -> Schedule:
    headers = found.headers
    event = event_of(topic_of(headers[_TARGET]), found.payload, headers, found.sequence, 0)
    draft = Draft(
        event.topic,
        event.payload,
        key=event.key,
        metadata=event.metadata,
        timestamp=number(headers.get(TIMESTAMP, "")),
        ttl=number(headers.get(_TTL, "").removesuffix("s")),
        schema=event.schema,
        group=headers.get(GROUP, ""),
    )
    return Schedule(schedule_id(found.subject), draft, headers[_WHEN], headers.get(_ZONE, ""))
