"""Where events are on the engine: its streams, their subjects, and the headers of events there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from microcosmos.base import context, errors
from microcosmos.events.checks import UNNAMED
from microcosmos.events.interface import DUPLICATE_WINDOW, Draft, Event, partition

STREAM = "events"
DEAD = "events-dead"
TOPICS = "events-topics"

DEAD_SUBJECT = "events.dead."
TOPIC_SUBJECT = "events.topic."
SCHEDULE_SUBJECT = "events.schedule."

ID = "Nats-Msg-Id"
TTL = "Nats-TTL"
KEY = "Micro-Key"
TIMESTAMP = "Micro-Timestamp"
SCHEMA = "Micro-Schema"
GROUP = "Micro-Group"
NAME = "Micro-Id"
"""The event's id, where the engine knows it by another: what was a dead letter."""

NANOSECONDS = 1_000_000_000

HEADROOM = 8 * 1024
"""Bytes of the engine's limit that no event fills, so that it fits among the dead letters too."""

MAX_HEADERS = 56 * 1024
"""Bytes that the headers of an event may have; the engine takes 64 KiB of them in a stream."""

_PLATFORMS = ("Nats-", "Micro-")


def streams(replicas: int) -> list[dict[str, Any]]:
    """The configurations of a namespace's streams."""
    common = {"storage": "file", "num_replicas": replicas, "allow_direct": True}
    window = int(DUPLICATE_WINDOW * NANOSECONDS)
    return [
        # Without limits, so that nothing is ever discarded. (nats-server has no schedules in
        # streams that refuse what is too much.)
        {
            **common,
            "name": STREAM,
            "subjects": ["events.log.*.>", f"{SCHEDULE_SUBJECT}>"],
            "allow_msg_ttl": True,
            "allow_atomic": True,
            "allow_msg_schedules": True,
            "duplicate_window": window,
        },
        {
            **common,
            "name": DEAD,
            "subjects": [f"{DEAD_SUBJECT}>"],
            "discard": "new",
            "duplicate_window": window,
        },
        {
            **common,
            "name": TOPICS,
            "subjects": [f"{TOPIC_SUBJECT}>"],
            "max_msgs_per_subject": 1,
        },
    ]


def subject(topic: str, key: str) -> str:
    """Where an event is published."""
    return f"events.log.{partition(key)}.{topic}"


def selected(pattern: str, part: int | None = None) -> str:
    """What the subjects of a topic or a pattern of topics are like, in all parts or in one."""
    return f"events.log.{'*' if part is None else part}.{pattern}"


def topic_of(subject: str) -> str:
    """The topic that an event on a subject is of."""
    return subject.split(".", 3)[3]


def schedule_subject(id: str) -> str:
    """Where a schedule is."""
    return SCHEDULE_SUBJECT + quote(id, safe="").replace(".", "%2E").replace("~", "%7E")


def schedule_id(subject: str) -> str:
    """The schedule that is on a subject."""
    return unquote(subject.removeprefix(SCHEDULE_SUBJECT))


def headers_of(draft: Draft) -> dict[str, str]:
    """The headers of an event, without its id."""
    headers = dict(draft.metadata)
    if draft.key:
        headers[KEY] = draft.key
    if draft.timestamp:
        headers[TIMESTAMP] = repr(draft.timestamp)
    if draft.schema:
        headers[SCHEMA] = str(draft.schema)
    if draft.group:
        headers[GROUP] = draft.group
    return headers


def check_size(payload: bytes, headers: Mapping[str, str], limit: int) -> None:
    """See that the engine takes a message: it closes the connection of who sends a larger one.

    Raises:
        errors.TooLarge: it is over the limit, or its headers are over theirs.
    """
    size = 16 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    if size > MAX_HEADERS:
        raise errors.TooLarge("metadata", f"{size} bytes as headers are over {MAX_HEADERS}")
    if (size := size + len(payload)) > limit:
        raise errors.TooLarge(
            "events", f"an event of {size} bytes with its metadata is over {limit}"
        )


def event_of(
    topic: str, payload: bytes, headers: Mapping[str, str] | None, sequence: int, stored: float
) -> Event:
    """The event that a message is.

    Args:
        topic: of its subject.
        payload: its body.
        headers: its own, and those that the engine has put there.
        sequence: of the message.
        stored: when it was, in seconds since the epoch.
    """
    if not headers:
        return Event(f"{UNNAMED}{sequence}", topic, {}, stored, payload, "", sequence)
    get = headers.get
    id = get(NAME) or get(ID) or f"{UNNAMED}{sequence}"
    if len(headers) == 1 and ID in headers:
        return Event(id, topic, {}, stored, payload, "", sequence)
    metadata = {
        str(name): value
        for name, value in headers.items()
        if not name.startswith(_PLATFORMS) or name == context.TRACE
    }
    said = number(get(TIMESTAMP, ""))
    schema = int(number(get(SCHEMA, "")))
    return Event(id, topic, metadata, said or stored, payload, get(KEY, ""), sequence, schema)


def number(text: str) -> float:
    """A number in a header; what is none is 0: others may publish too."""
    try:
        return float(text) if text else 0
    except ValueError:
        return 0
