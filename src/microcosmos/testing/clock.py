"""The time of a platform in memory: it passes as it does, and faster when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time

TURNS = 10
"""Turns of the loop in which whoever was woken goes on, before others are woken later."""


class MovingClock:
    """A `base.clock.Clock` that can be put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed on this clock."""
        until = self.monotonic() + seconds
        while (left := until - self.monotonic()) > 0:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (until, next(self._numbers), woken))
            await asyncio.wait((woken,), timeout=left)
            woken.cancel()
        await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once; who wakes up in them does so at its own time."""
        target = self.monotonic() + seconds
        await self._turns()
        while self._wake(target):
            await self._turns()
        self._ahead += max(0.0, target - self.monotonic())

    async def skip(self) -> bool:
        """Let the time pass until the next one wakes up; False if nobody sleeps."""
        woken = self._wake(float("inf"))
        await asyncio.sleep(0)
        return woken

    async def _turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _wake(self, target: float) -> bool:
        """Wake the next one who is due until then."""
        while self._sleepers and self._sleepers[0][0] <= target:
            until, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                self._ahead += max(0.0, until - self.monotonic())
                woken.set_result(None)
                return True
        return False
