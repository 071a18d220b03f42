"""The replicas of one deployment: started together, replaced without a gap, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

from .failure import Failure
from .replica import Blueprint, Replica, Surroundings


class Group:
    """Replicas that serve, and those on their way in and out.

    Args:
        around: what the replicas live among.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._serving: list[Replica] = []
        self._coming: list[Replica] = []
        self._going: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        """How many replicas answer."""
        return sum(replica.state == "running" for replica in self._serving)

    def broken(self) -> Replica | None:
        """A replica that has crashed and is not up again, if there is one."""
        return next((replica for replica in self._serving if replica.state == "error"), None)

    async def adopt(self, blueprint: Blueprint, processes: dict[int, str], count: int) -> None:
        """Take over what is running and start what is missing."""
        self._serving = [Replica(blueprint, number, self._around) for number in range(count)]
        outcomes = await _outcomes(self._bring(replica, processes) for replica in self._serving)
        for replica, failure in zip(self._serving, outcomes, strict=True):
            replica.keep(failure)

    async def roll(self, blueprint: Blueprint, count: int) -> None:
        """Start new replicas, wait until all answer, then drain the old ones.

        Raises:
            Failure: a new one did not start. If old ones answer they stay, and the new are
                stopped; else the new ones take their place and go on being tried.
        """
        self._coming = [Replica(blueprint, number, self._around) for number in range(count)]
        try:
            outcomes = await _outcomes(replica.start() for replica in self._coming)
        except asyncio.CancelledError:
            self._leave(self._coming)
            self._coming = []
            raise
        failure = next((outcome for outcome in outcomes if outcome), None)
        if failure and self.ready:
            old, self._coming = self._coming, []
        else:
            old, self._serving, self._coming = self._serving, self._coming, []
            for replica, outcome in zip(self._serving, outcomes, strict=True):
                replica.keep(outcome)
        self._leave(old)
        await self._left()
        if failure:
            raise failure

    async def stop(self) -> None:
        """End every replica."""
        self._leave([*self._serving, *self._coming])
        self._serving, self._coming = [], []
        await self._left()

    def release(self) -> None:
        """Stop watching; the processes go on."""
        for replica in (*self._serving, *self._coming):
            replica.leave()
        for task in self._going:
            task.cancel()

    async def _bring(self, replica: Replica, processes: dict[int, str]) -> None:
        process = processes.get(replica.number)
        await (replica.adopt(process) if process else replica.start())

    def _leave(self, replicas: Iterable[Replica]) -> None:
        # Tasks of their own: whoever waits for them may be cancelled, the draining goes on.
        for replica in replicas:
            task = asyncio.create_task(replica.stop())
            self._going.add(task)
            task.add_done_callback(self._going.discard)

    async def _left(self) -> None:
        if self._going:
            await asyncio.wait(list(self._going))


async def _outcomes(starts: Iterable[Coroutine[None, None, None]]) -> list[Failure | None]:
    """Run starts together; how each failed, or None."""
    return list(await asyncio.gather(*(_outcome(start) for start in starts)))


async def _outcome(start: Coroutine[None, None, None]) -> Failure | None:
    try:
        await start
    except Failure as failure:
        return failure
    return None
