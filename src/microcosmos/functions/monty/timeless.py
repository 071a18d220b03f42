"""What Python functions in a replay ask for that is random, or about time: answered by a world."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping
from typing import Any

from microcosmos.functions.interface import Replay
from microcosmos.functions.replay import World

from .sandbox import RANDOM, Ask

POLICY = {"datetime": "call_host", "sleep": "call_host"}
"""Has Monty ask for the time, and for sleep; its `random` has a seed beside."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def policy(replay: Replay) -> dict[str, Any]:
    """What Monty is told of a replay."""
    return {**POLICY, "random_start": {"seed": replay.seed}}


class Timeless:
    """One run in a world: sleep takes no time, and keeps to its order.

    Attributes:
        asks: what Monty asks for on behalf of its own modules.
        awaited: those of them that are sleep to be awaited.

    Args:
        world: that it goes on from.
    """

    awaited = frozenset(("asyncio.sleep",))

    def __init__(self, world: World) -> None:
        self._world = world
        self._sleeping: dict[int, float] = {}
        self.asks: Mapping[str, Ask] = {
            "time.sleep": self._sleep,
            "asyncio.sleep": self._sleep,
            "os.urandom": self._random,
            "time.time": self._time,
            "datetime.now": self._now,
            "date.today": self._today,
        }

    def sleep(self, number: int, seconds: float) -> None:
        """Let an awaited sleep begin."""
        self._sleeping[number] = self._world.clock + max(seconds, 0.0) * 1000

    async def some(
        self, waiting: dict[int, asyncio.Task[Any]], pending: list[int]
    ) -> dict[int, Any]:
        """Results by number, as soon as there is one of those that are wanted.

        A sleep ends when nothing else is to come, and the shortest first.
        """
        while True:
            if done := [number for number in pending if _is_done(waiting, number)]:
                return {number: waiting.pop(number).result() for number in done}
            if busy := [task for task in waiting.values() if not task.done()]:
                await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
                continue
            first = min(self._sleeping, key=lambda number: (self._sleeping[number], number))
            self._world.reached(self._sleeping.pop(first))
            if first in pending:
                return {first: {"return_value": None}}
            waiting[first] = asyncio.create_task(_nothing())

    async def _sleep(self, seconds: float) -> None:
        self._world.reached(self._world.clock + max(seconds, 0.0) * 1000)

    async def _random(self, size: int) -> bytes:
        if not 0 <= size <= RANDOM:
            raise ValueError(f"os.urandom gives {RANDOM} bytes at once, no more")
        return self._world.random(size)

    async def _time(self, caller: str = "time.time") -> float:
        return self._world.look() / 1000

    async def _now(self, zone: datetime.tzinfo | None = None) -> datetime.datetime:
        now = _EPOCH + datetime.timedelta(milliseconds=self._world.look())
        return now.replace(tzinfo=None) if zone is None else now.astimezone(zone)

    async def _today(self) -> datetime.date:
        return (await self._now()).date()


def _is_done(waiting: dict[int, asyncio.Task[Any]], number: int) -> bool:
    return number in waiting and waiting[number].done()


async def _nothing() -> dict[str, Any]:
    return {"return_value": None}
