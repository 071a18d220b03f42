"""What goes wrong with messages: counted, and told in the log, but never a flood of lines."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter

import msgspec

from microcosmos.base import context
from microcosmos.base.context import TRACE, Metadata, Unasked

log = logging.getLogger("microcosmos.broker")

MAX_REASON = 500
"""Characters of a reason that are told to a publisher."""

LONGEST_LINE = 1000
"""Characters of a line; others have written most of it."""

LINES = 10
"""Lines of each kind in the log that a process spends a second; the rest is summed up in one."""

INTERVAL = 1.0
"""Seconds that are summed up."""

MAX_TOPICS = 1000
"""Topics that are counted each by itself; all others are counted as one, ``*``."""

OTHERS = "*"


class Failure(msgspec.Struct, frozen=True):
    """A subscriber could not handle a message.

    Attributes:
        topic: what it was published under.
        subscriber: who could not.
        reason: why, in one line.
        trace: the message's, or empty.
    """

    topic: str
    subscriber: str
    reason: str
    trace: str = ""


class Failures:
    """What went wrong with the messages of one process, by topic, since it started.

    Attributes:
        failed: messages that a handler of this process could not handle.
        reported: messages of this process that a subscriber said it could not handle.
        dropped: messages that this process was too slow for.
    """

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self.reported: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._failed = _Lines(logging.ERROR, "failures of handlers")
        self._reported = _Lines(logging.WARNING, "failures reported by subscribers")
        self._dropped = _Lines(logging.WARNING, "messages dropped", first=1)

    def fail(self, failure: Failure, exc: BaseException | None = None) -> None:
        """A handler of this process failed; the stack of what nobody foresaw is in the log."""
        _count(self.failed, failure.topic)
        line = f"{failure.subscriber} failed on {failure.topic}: {failure.reason}"
        self._failed(failure.topic, line, exc)

    def report(self, failure: Failure) -> None:
        """A subscriber failed on a message of this process."""
        _count(self.reported, failure.topic)
        line = f"subscriber {failure.subscriber} of {failure.topic} failed: {failure.reason}"
        contextvars.Context().run(self._told, failure, line)

    def _told(self, failure: Failure, line: str) -> None:
        # The line belongs to the trace of the message, wherever the report came in.
        context.set_current(Unasked(Metadata.wrap({TRACE: plain(failure.trace)})))
        self._reported(failure.topic, line)

    def drop(self, topic: str, subscriber: str, waiting: int) -> None:
        """A subscriber of this process is too slow: a message is lost to it."""
        _count(self.dropped, topic)
        line = f"{subscriber} is too slow for {topic}: {waiting} wait, a message is dropped"
        self._dropped(topic, line)

    def close(self) -> None:
        """Tell what has not been told yet."""
        for lines in (self._failed, self._reported, self._dropped):
            lines.sum_up()


class _Lines:
    """Lines of one kind: the first few of each second as they are, the rest as one sum."""

    def __init__(self, level: int, what: str, *, first: int = LINES) -> None:
        self._level = level
        self._what = what
        self._first = first
        self._said = 0
        self._more: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, topic: str, line: str, exc: BaseException | None = None) -> None:
        if self._said < self._first:
            self._said += 1
            log.log(self._level, "%s", plain(line, LONGEST_LINE), exc_info=exc)
        else:
            _count(self._more, topic)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._ended)

    def _ended(self) -> None:
        self._timer = None
        self._said = 0
        self.sum_up()

    def sum_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._said = 0
        if self._more:
            most = ", ".join(f"{topic} {count}" for topic, count in self._more.most_common(5))
            more = ", …" if len(self._more) > 5 else ""
            log.log(self._level, "%d more %s: %s%s", self._more.total(), self._what, most, more)
            self._more.clear()


def plain(text: str, longest: int = MAX_REASON) -> str:
    """A text that cannot break a line or steer a terminal, whoever wrote it."""
    one_line = " ".join(text[:longest].split())
    return "".join(char if char.isprintable() else "�" for char in one_line)


def _count(counter: Counter[str], topic: str) -> None:
    counter[topic if topic in counter or len(counter) < MAX_TOPICS else OTHERS] += 1
