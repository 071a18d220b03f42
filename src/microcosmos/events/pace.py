"""How much a member takes at once: more while it is quick, little while it is slow."""

from __future__ import annotations

from microcosmos.base.clock import Clock

PROMPT = 0.05
"""Seconds in which a member that is quick is through with what it took."""


class Pace:
    """How many events to have in hand at once.

    A member that takes one at a time spends its time on asking; one that takes many and is slow
    keeps them from others. So it begins with few, and doubles while it gets through in `PROMPT`.

    Attributes:
        limit: how many now.

    Args:
        least: how many it begins with.
        most: the limit of that.
        clock: what it is measured by.
    """

    def __init__(self, least: int, most: int, clock: Clock) -> None:
        self.limit = least
        self._least = least
        self._most = most
        self._clock = clock
        self._full = False
        self._since: float | None = None

    def took(self, number: int, asked: int) -> None:
        """So many were taken just now, of so many that were asked for."""
        self._full = number >= asked
        self._since = self._clock.monotonic()

    def through(self) -> None:
        """Most of them wait no more: more may be taken."""
        if self._since is None:
            return
        if self._clock.monotonic() - self._since > PROMPT:
            self.limit = max(self._least, self.limit // 2)
        elif self._full:
            self.limit = min(self._most, self.limit * 2)
        self._since = None
