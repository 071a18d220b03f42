"""Logs as the tests see them: a world with a log in it, where time passes when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from microcosmos.base.clock import ManualClock
from microcosmos.events.interface import Delivery, Draft, Group, GroupSpec, Log
from microcosmos.events.memory import MemoryLog


class World:
    """A log of a namespace without events.

    Attributes:
        log: as a service has it.
        core: as the core has it.
    """

    def __init__(self, log: Log, core: Log | None = None, clock: ManualClock | None = None) -> None:
        self.log = log
        self.core = core or log
        self.clock = clock

    async def later(self, seconds: float) -> None:
        """Let time pass, where it passes by itself no more than it is waited for."""
        if self.clock is not None:
            await self.clock.advance(seconds)

    def now(self) -> float:
        """The log's time."""
        return self.clock.time() if self.clock is not None else time.time()

    async def until(self, seconds: float, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait for what has to hold in so many seconds of the log's time."""
        await self.later(seconds)
        async with asyncio.timeout(seconds + 60):
            while not await condition():  # noqa: ASYNC110 - of whatever is on the other side
                await asyncio.sleep(0.01)

    async def pull(self, group: Group, limit: int = 1, *, within: float = 0) -> list[Delivery]:
        """What a member is given in so many seconds of the log's time."""
        pulling = asyncio.create_task(self._pulled(group, limit, within))
        if within:
            await self.settled()
            await self.later(within)
        return await pulling

    async def _pulled(self, group: Group, limit: int, within: float) -> list[Delivery]:
        async with asyncio.timeout(within + 60):
            return list(await group.pull(limit))

    async def all(self, group: Group, number: int) -> list[Delivery]:
        """The next so many events of a group, each acknowledged."""
        found: list[Delivery] = []
        while len(found) < number:
            for delivery in await self.pull(group, number - len(found)):
                await group.ack(delivery)
                found.append(delivery)
        return found

    async def nothing(self, group: Group) -> bool:
        """Whether a member is given nothing, for now."""
        marker = asyncio.create_task(group.pull(1))
        await self.settled()
        if marker.done():
            return False
        marker.cancel()
        await asyncio.wait([marker])
        return True

    async def settled(self) -> None:
        """Let happen what is under way: several answers of the log are waited for."""
        for _ in range(5):
            await self.log.groups()
            await asyncio.sleep(0)


Open = Callable[[], contextlib.AbstractAsyncContextManager[World]]


@contextlib.asynccontextmanager
async def in_memory() -> AsyncIterator[World]:
    """A log in memory, and a clock that stands still until it is moved."""
    clock = ManualClock()
    yield World(MemoryLog(clock), clock=clock)


def draft(topic: str = "t", payload: bytes = b"{}", **more: Any) -> Draft:
    return Draft(topic, payload, **more)


async def publish(log: Log, topic: str, *payloads: bytes, **more: Any) -> None:
    """Publish one after another."""
    for payload in payloads:
        await log.publish(Draft(topic, payload, **more))


def payloads(deliveries: list[Delivery]) -> list[bytes]:
    return [one.event.payload for one in deliveries]


def spec(topic: str = "t", name: str = "g", **more: Any) -> GroupSpec:
    return GroupSpec(topic, name, **more)
