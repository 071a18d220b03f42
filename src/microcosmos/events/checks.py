"""What is refused before a backend sees it, the same on each."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Sequence

import msgspec

from microcosmos.base import context, errors
from microcosmos.base.topics import check_pattern, check_topic

from .interface import MAX_BATCH, MAX_PAYLOAD, Draft, GroupSpec, Start

MAX_NAME = 200
"""The longest id of an event, key, or name of a group or schedule, in bytes of UTF-8."""

MAX_METADATA = 48 * 1024
"""The largest metadata of an event, in bytes, names and values together.

The engine takes 64 KiB of headers, and the platform's own come on top.
"""

LONGEST_TTL = 100 * 365 * 86400.0
"""The longest time that an event can be kept for before it is forgotten, in seconds."""

MIN_ACK_WAIT = 0.1
"""The shortest time in which a member acknowledges, in seconds."""

MAX_ACK_WAIT = 86400.0
"""The longest time in which a member acknowledges, in seconds."""

MAX_DELAY = 30 * 86400.0
"""The longest time after which what was given back is given out again, in seconds."""

UNNAMED = "seq:"
"""How ids of events begin that no publisher has named."""

_NAME = re.compile(r"[!-~]+", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9_.:@/+=~-]+", re.ASCII)
_RESERVED = ("Nats-", "Micro-")


def check_drafts(drafts: Sequence[Draft]) -> list[Draft]:
    """Drafts as they are stored: each with an id, metadata Title-Cased, TTLs in whole seconds.

    Raises:
        errors.BadRequest: one cannot be an event, or two have the same id.
        errors.TooLarge: a payload is over `MAX_PAYLOAD`, or there are over `MAX_BATCH`.
    """
    if len(drafts) > MAX_BATCH:
        raise errors.TooLarge(
            "events", f"{len(drafts)} events at once: {MAX_BATCH} can be published all or none"
        )
    checked = [check_draft(one) for one in drafts]
    if len({one.id for one in checked}) < len(checked):
        raise errors.BadRequest("events", "two events of one batch have the same id")
    return checked


def check_draft(draft: Draft) -> Draft:
    """A draft as it is stored; see `check_drafts`."""
    check_topic(draft.topic)
    check_payload(draft.payload)
    check_time("timestamp", draft.timestamp)
    if draft.id and draft.id.startswith(UNNAMED):
        raise errors.BadRequest("events", f"ids that begin with {UNNAMED} are the log's own")
    if draft.group:
        check_group(draft.group)
    return msgspec.structs.replace(
        draft,
        id=check_name("id", draft.id) if draft.id else str(uuid.uuid4()),
        key=check_name("key", draft.key) if draft.key else "",
        metadata=check_metadata(draft.metadata) if draft.metadata else {},
        ttl=check_ttl(draft.ttl) if draft.ttl else 0,
    )


def check_payload(payload: bytes) -> bytes:
    """The payload of an event.

    Raises:
        errors.BadRequest: it is no bytes.
        errors.TooLarge: it is over `MAX_PAYLOAD`.
    """
    if not isinstance(payload, bytes):
        raise errors.BadRequest("events", f"a payload is bytes, not {type(payload).__name__}")
    if len(payload) > MAX_PAYLOAD:
        raise errors.TooLarge(
            "events",
            f"a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}: store it as a "
            "blob and publish its name",
        )
    return payload


def check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata as it is stored, Title-Cased.

    Raises:
        errors.BadRequest: a name or a value cannot be sent, or is the platform's.
        errors.TooLarge: it is over `MAX_METADATA`.
    """
    checked = {}
    for name, value in metadata.items():
        titled, text = context.sendable(name, value)
        if titled == context.AUTHORIZATION:
            detail = f"the name {titled} is not for events, which stay: leave it out"
            raise errors.BadRequest("metadata", detail)
        if titled.startswith(_RESERVED) and titled != context.TRACE:
            raise errors.BadRequest(
                "metadata",
                f"the name {titled} is the platform's, as all that begin with Nats- or Micro-",
            )
        checked[titled] = text
    size = sum(len(name) + len(value.encode()) for name, value in checked.items())
    if size > MAX_METADATA:
        raise errors.TooLarge("metadata", f"{size} bytes are over the limit of {MAX_METADATA}")
    return checked


def check_spec(spec: GroupSpec) -> GroupSpec:
    """What a group is to be.

    Raises:
        errors.BadRequest: it cannot be that.
    """
    check_pattern(spec.topic)
    if spec.name:
        check_group(spec.name)
    check_start(spec.start)
    if not MIN_ACK_WAIT <= spec.ack_wait <= MAX_ACK_WAIT:
        raise errors.BadRequest(
            "events",
            f"ack_wait is {spec.ack_wait:g} seconds; it can be {MIN_ACK_WAIT:g} to "
            f"{MAX_ACK_WAIT:g}",
        )
    return spec


def check_start(start: Start) -> Start:
    """Where a group begins.

    Raises:
        errors.BadRequest: more than one place is said, or one that cannot be.
    """
    check_time("time", start.time)
    if start.sequence < 0:
        raise errors.BadRequest("events", "sequences begin with 1")
    if start.beginning + bool(start.sequence) + bool(start.time) > 1:
        raise errors.BadRequest("events", "a group begins at one of: beginning, sequence, time")
    return start


def check_group(name: str) -> str:
    """The name of a group.

    Raises:
        errors.BadRequest: it is none.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _GROUP.fullmatch(name):
        raise errors.BadRequest(
            "events",
            f"{name!r:.80} is no name of a group: letters, digits and _ - . : @ / + = ~, at most "
            f"{MAX_NAME}",
        )
    return name


def check_name(what: str, name: str) -> str:
    """An id or a key.

    Raises:
        errors.BadRequest: it is empty, too long, or cannot be a header.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise errors.BadRequest(
            "events",
            f"{name!r:.80} cannot be the {what}: it has 1 to {MAX_NAME} characters of ASCII and "
            "no spaces",
        )
    return name


def check_ttl(ttl: float) -> float:
    """Seconds that an event is kept, whole ones, rounded up; 0 for ever.

    Raises:
        errors.BadRequest: it is negative, no number or over `LONGEST_TTL`.
    """
    if not 0 <= ttl <= LONGEST_TTL:
        raise errors.BadRequest("events", f"a TTL is 0 to {LONGEST_TTL:g} seconds, not {ttl:g}")
    return float(math.ceil(ttl))


def check_time(what: str, seconds: float) -> float:
    """A moment, in seconds since the epoch.

    Raises:
        errors.BadRequest: it is none.
    """
    if not 0 <= seconds < 1e11:
        raise errors.BadRequest("events", f"{what} is seconds since 1970, not {seconds:g}")
    return seconds


def check_delay(seconds: float) -> float:
    """After how long something is given out again.

    Raises:
        errors.BadRequest: it is negative, no number or over `MAX_DELAY`.
    """
    if not 0 <= seconds <= MAX_DELAY:
        raise errors.BadRequest("events", f"a delay is 0 to {MAX_DELAY:g} seconds, not {seconds:g}")
    return seconds


def check_page(limit: int, offset: int = 0, after: int = 0) -> None:
    """What a page is asked for by.

    Raises:
        errors.BadRequest: it is no page.
    """
    if not 1 <= limit <= MAX_BATCH:
        raise errors.BadRequest("events", f"limit is 1 to {MAX_BATCH}, not {limit}")
    if offset < 0 or after < 0:
        raise errors.BadRequest("events", "offset and after cannot be negative")


def check_purge(before: int, keep: int) -> None:
    """What is left by a purge.

    Raises:
        errors.BadRequest: both are said, or one is negative.
    """
    if before < 0 or keep < 0 or (before and keep):
        raise errors.BadRequest("events", "purge by one of before and keep, not negative")


def ordered_otherwise(spec: GroupSpec) -> str:
    """What who joins a group hears that is ordered otherwise than it was to be."""
    now, wanted = ("ordered", "not") if spec.ordered else ("not ordered", "ordered")
    return (
        f"group {spec.name} of {spec.topic} is {now}, and was to be {wanted}: delete the group, "
        "or take another name"
    )


def one_line(reason: str) -> str:
    """Why something became a dead letter, in one line that a header can carry."""
    return " ".join(reason.split())[:MAX_REASON] or "no reason was given"


MAX_REASON = 1000
"""The longest reason of a dead letter, in characters; longer ones are cut."""
