"""Watching a worker that owes answers: when to ask it for a sign of life, and when to suspect it.

A worker may be silent because its functions wait, because the machine is busy, or because a
function holds it up. The first answers a BEAT, the second uses no processor, the third does.
"""

from __future__ import annotations

from . import cpu

SILENCE = 0.03
"""Seconds without a word under way after which a worker is asked for a sign of life."""

BURNED = 0.02
"""Seconds of the processor that a worker may use before it gives that sign."""

BLOCKED = 0.5
"""Seconds that one may take for it which is asleep: what it was asked would have woken it."""

STUCK = 5.0
"""Seconds that a worker may take for it which uses no processor."""


class Watch:
    """What is known of the silence of one worker.

    Attributes:
        asked: whether it has been asked for a sign of life.
        first: seconds of the processor that it had used in its life when it fell silent.

    Args:
        pid: of the worker.
    """

    __slots__ = ("_at", "_before", "_pid", "_since", "asked", "first")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since = 0.0
        self._at = 0.0
        self._before = 0.0
        self.first = 0.0
        self.asked = False

    def heard(self) -> None:
        """It lives."""
        self._since = 0.0
        self.asked = False

    def silent(self, now: float) -> bool:
        """Whether nothing has been heard for long enough to wonder, though answers are owed."""
        if not self._since:
            self._since = now
            self.first = self._used()
        return now - self._since >= SILENCE - _SLACK

    def ask(self, now: float) -> None:
        """It is asked for a sign of life."""
        self.asked = True
        self._at = now
        self._before = self._used()

    def suspicious(self, now: float) -> float | None:
        """The seconds of the processor used since it was asked, if that is too much."""
        burned = self._used() - self._before
        waited = now - self._at
        if burned >= BURNED or waited >= STUCK:
            return burned
        return burned if waited >= BLOCKED and cpu.asleep(self._pid) else None

    def _used(self) -> float:
        try:
            return cpu.used(self._pid)
        except ProcessLookupError:
            # Its end is told by its socket.
            return self._before


_SLACK = 0.005
"""Seconds that a timer may come early."""
