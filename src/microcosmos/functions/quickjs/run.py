"""A request or an event that is under way."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from microcosmos.base.context import TRACE
from microcosmos.functions import wire
from microcosmos.rpc.line import Line

_TRACE = re.compile(rf'\[\s*"{re.escape(TRACE)}"\s*,\s*"([^"\\]*)"', re.IGNORECASE)


class Run:
    """One entry of a function, until its answer has been given and all it asked for has come.

    Attributes:
        number: in its realm.
        line: that it came on; None if nobody waits.
        stream: on that line.
        head: its lines.
        began: when, in nanoseconds.
        fetches: how often it has asked the host for something.
        under: how much of that has not been answered.
        queue: what it asks for when that is less.
        logged: bytes that it has written to its log.
        moved: when its streamed answer has last gone on, in nanoseconds.
        open: how much of what it asked for is still to come.
        answered: whether its answer has begun.
        room: bytes of a streamed answer that may still be sent.
        bodies: the numbers of those that are coming for it.
    """

    __slots__ = (
        *("answered", "began", "bodies", "fetches", "head", "line", "logged", "moved", "number"),
        *("open", "queue", "room", "stream", "under"),
    )

    def __init__(self, number: int, line: Line | None, stream: int, head: str, began: int) -> None:
        self.number = number
        self.line = line
        self.stream = stream
        self.head = head
        self.began = began
        self.fetches = 0
        self.under = 0
        self.queue: deque[Callable[[], None]] | None = None
        self.logged = 0
        self.moved = began
        self.open = 0
        self.answered = False
        self.room = wire.WINDOW
        self.bodies: list[int] = []

    @property
    def trace(self) -> str:
        """Of the request."""
        found = _TRACE.search(self.head)
        return found[1] if found else ""

    def send(self, kind: int, payload: bytes) -> None:
        """Send a frame to whoever asked, if he is still there."""
        if self.line is not None and self.line.open:
            self.line.send(kind, self.stream, payload)
