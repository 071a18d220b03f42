"""The replicas of one deployment: started together, replaced without a gap, stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable

from .failure import Failure
from .replica import Blueprint, Replica, Surroundings

logger = logging.getLogger(__name__)


class Group:
    """Replicas that serve, and those on their way in and out.

    Attributes:
        generation: of those that serve, empty while there are none.

    Args:
        around: what the replicas live among.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.generation = ""
        self._serving: list[Replica] = []
        self._coming: list[Replica] = []
        self._going: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        """How many replicas answer."""
        return sum(replica.state == "running" for replica in self._serving)

    @property
    def processes(self) -> list[str]:
        """The processes that serve."""
        return [replica.process for replica in self._serving]

    def broken(self) -> Replica | None:
        """A replica that has crashed and is not up again, if there is one."""
        return next((replica for replica in self._serving if replica.state == "error"), None)

    async def adopt(
        self, blueprint: Blueprint, processes: dict[int, str], count: int, *, trusted: bool
    ) -> None:
        """Take over what is running and start what is missing.

        Args:
            blueprint: what they are made from.
            processes: what runs, by the replica's number.
            count: how many replicas there should be.
            trusted: whether they answered before the core went away, so that being alive is enough.
        """
        self.generation = blueprint.generation
        self._serving = [Replica(blueprint, number, self._around) for number in range(count)]
        outcomes = await _outcomes(
            replica.adopt(processes[replica.number], trusted=trusted)
            if replica.number in processes
            else replica.start()
            for replica in self._serving
        )
        for replica, failure in zip(self._serving, outcomes, strict=True):
            replica.keep(failure)

    async def roll(self, blueprint: Blueprint, count: int) -> None:
        """Start new replicas, wait until all answer, then begin to drain the old ones.

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
            self.generation = blueprint.generation
            old, self._serving, self._coming = self._serving, self._coming, []
            for replica, outcome in zip(self._serving, outcomes, strict=True):
                replica.keep(outcome)
        # Not waited for: the caller notes first what serves now. `stop` waits.
        self._leave(old)
        if failure:
            raise failure

    async def stop(self) -> None:
        """End every replica."""
        self._leave([*self._serving, *self._coming])
        self._serving, self._coming = [], []
        await self._left()

    async def release(self) -> None:
        """Stop watching; the processes go on."""
        for replica in (*self._serving, *self._coming):
            await replica.leave()
        for task in self._going:
            task.cancel()
        await self._left()

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
    # With return_exceptions a cancelled gather waits until every start has really ended.
    results = await asyncio.gather(*(_outcome(start) for start in starts), return_exceptions=True)
    return [result if isinstance(result, Failure) else None for result in results]


async def _outcome(start: Coroutine[None, None, None]) -> Failure | None:
    try:
        await start
    except Failure as failure:
        return failure
    except OSError as exc:
        return Failure(f"could not be started: {exc}")
    except Exception as exc:
        logger.warning("a replica could not be started", exc_info=True)
        return Failure(f"could not be started: {exc}")
    return None
