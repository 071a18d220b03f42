"""Drain: ends processes gently while there is patience left, then at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable

from .processes import Process, kill

PATIENCE = 10.0
"""Seconds that a whole stop may take before what is left is killed."""

_LEAST = 0.5


class Drain:
    """The patience of one stop, shared by everything that is stopped in turn.

    Args:
        patience: seconds, counted from the first process that is asked to end.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._deadline: float | None = None
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Lose all patience: a second Ctrl-C."""
        self._hurried.set()

    async def end(self, processes: Iterable[Process]) -> None:
        """Ask processes to end, wait for them, kill those that have not; all are gone after it."""
        ending = list(processes)
        if not ending:
            return
        for process in ending:
            process.signal(signal.SIGTERM)
            # A stopped process would never hear it.
            process.signal(signal.SIGCONT)
        await self._wait(ending)
        await kill(ending)

    async def _wait(self, processes: list[Process]) -> None:
        async def all_gone() -> None:
            for process in processes:
                await process.wait()

        waits = {
            asyncio.create_task(all_gone()),
            asyncio.create_task(asyncio.wait_for(self._hurried.wait(), self._left())),
        }
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _left(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._patience
        # What comes late still gets a moment: the first ones may have used up all the time.
        return max(_LEAST, self._deadline - now)
