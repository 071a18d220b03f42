"""The pace of the ledger: how often it writes, so that others may write too."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

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
    """

    def __init__(self, every: float = EVERY, share: float = SHARE) -> None:
        self._every = every
        self._share = share
        self._began = self._next = -LONGEST

    async def rest(self) -> None:
        """Wait until it is time to write."""
        left = self._next - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took = time.monotonic() - self._began
        self._next = self._began + min(max(self._every, took / self._share), took + LONGEST)


def unpaced() -> Pace:
    """A pace without rests."""
    return Pace(0.0, 1.0)
