"""The pace of the ledger: how often it writes, so that others may write too."""

from __future__ import annotations

from types import TracebackType

from microcosmos.base.clock import SYSTEM, Clock

EVERY = 0.1
"""Seconds between the beginnings of two writes of the ledger, at least; what is counted meanwhile
is written together."""

SHARE = 0.1
"""The part of the time that the ledger writes, at most; it rests longer after a long write."""

LONGEST = 1.0
"""The longest rest, in seconds."""


class Pace:
    """Rests between writes; the first one after a while does not wait.

    Used as ``with`` around a write, with `rest` before it.

    Args:
        every: as of `EVERY`.
        share: as of `SHARE`.
        clock: what it goes by.
    """

    def __init__(self, every: float = EVERY, share: float = SHARE, clock: Clock = SYSTEM) -> None:
        self._every = every
        self._share = share
        self._clock = clock
        self._began = self._next = -LONGEST

    async def rest(self) -> None:
        """Wait until it is time to write."""
        left = self._next - self._clock.monotonic()
        if left > 0:
            await self._clock.sleep(left)

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took = self._clock.monotonic() - self._began
        self._next = self._began + min(max(self._every, took / self._share), took + LONGEST)


def unpaced() -> Pace:
    """A pace without rests."""
    return Pace(0.0, 1.0)
