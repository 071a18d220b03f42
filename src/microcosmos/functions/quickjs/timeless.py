"""What a function in a replay waits for: its timers take no time, and keep to their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from microcosmos.functions.interface import Limits

from .asking import Asking, Settle
from .host import Host
from .run import Run


class Timeless(Asking):
    """Lets a timer be due when nothing else is to come: first that which is the first.

    Args:
        slot: as of `Asking`.
        limits: as of `Asking`.
        host: as of `Asking`.
        settle: as of `Asking`.
        over: as of `Asking`.
        waited: whether somebody waits for an answer yet; timers are for them.
    """

    def __init__(
        self,
        slot: int,
        limits: Limits,
        host: Host,
        settle: Settle,
        over: Callable[[Run], None],
        waited: Callable[[], bool],
    ) -> None:
        super().__init__(slot, limits, host, settle, over)
        self._waited = waited
        self._timers: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []
        self._looking: asyncio.Handle | None = None

    def timer(self, run: Run, number: int, milliseconds: float) -> None:
        """Tell when all that comes before a moment of the replay's own time is done."""
        self._timers[number] = milliseconds
        heappush(self._order, (milliseconds, number))
        self._begin(run, number, lambda: self._stopped(number))
        self._soon()

    def _stopped(self, number: int) -> None:
        self._timers.pop(number, None)
        self._soon()

    def _done(self, number: int, *said: Any) -> None:
        super()._done(number, *said)
        if self._timers:
            self._soon()

    def _soon(self) -> None:
        if self._looking is None:
            self._looking = self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = None
        if not self._waited():
            for number in [*self._timers]:
                self.forget(number)
        elif len(self._timers) == len(self._open):
            while self._order:
                _, number = heappop(self._order)
                if self._timers.pop(number, None) is not None:
                    self._done(number, True)
                    break
