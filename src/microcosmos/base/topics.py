"""Topics: the names that messages and events are published under, and patterns of them."""

from __future__ import annotations

import re

from . import errors

MAX_TOPIC = 200
"""The longest name of a topic, in characters."""

# What a part may hold is what a subject of NATS may, without what has a meaning in patterns.
_PART = r"[A-Za-z0-9_:@/+=~-]+"
_TOPIC = re.compile(rf"{_PART}(\.{_PART})*", re.ASCII)
_PATTERN = re.compile(rf"(({_PART}|\*)(\.({_PART}|\*))*(\.>)?|>)", re.ASCII)
_FORM = "parts of letters, digits and _ - : @ / + = ~ with a dot between them"


def check_topic(topic: str) -> str:
    """A topic that can be published to.

    Raises:
        errors.BadRequest: it is none; the detail says what one looks like.
    """
    if not isinstance(topic, str) or len(topic) > MAX_TOPIC or not _TOPIC.fullmatch(topic):
        raise errors.BadRequest(
            "topic", f"{topic!r:.80} is no topic; one is {_FORM}, {MAX_TOPIC} characters at most"
        )
    return topic


def check_pattern(pattern: str) -> str:
    """A topic or a pattern of topics: ``*`` is any one part, a last ``>`` is all that follow.

    Raises:
        errors.BadRequest: it is none.
    """
    if not isinstance(pattern, str) or len(pattern) > MAX_TOPIC or not _PATTERN.fullmatch(pattern):
        raise errors.BadRequest(
            "topic",
            f"{pattern!r:.80} is neither a topic nor a pattern; a topic is {_FORM}, and in a "
            "pattern * stands for one part and a last > for all that follow",
        )
    return pattern


def is_pattern(pattern: str) -> bool:
    """Whether it may stand for more than one topic."""
    return "*" in pattern or pattern.endswith(">")


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern stands for a topic."""
    if not is_pattern(pattern):
        return pattern == topic
    wanted, parts = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(parts) <= len(wanted):
            return False
        parts = parts[: len(wanted)]
    return len(wanted) == len(parts) and all(
        one in ("*", part) for one, part in zip(wanted, parts, strict=True)
    )


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern stands for every topic that another one, or a topic, stands for."""
    wanted, given = pattern.split("."), other.split(".")
    for at, one in enumerate(wanted):
        if at == len(given):
            return False
        if one == ">":
            return True
        if given[at] == ">" or one not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


def overlap(pattern: str, other: str) -> bool:
    """Whether there may be a topic that both stand for."""
    ours, theirs = pattern.split("."), other.split(".")
    for one, two in zip(ours, theirs, strict=False):
        if ">" in (one, two):
            return True
        if one != two and "*" not in (one, two):
            return False
    return len(ours) == len(theirs)
