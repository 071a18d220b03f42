"""A log whose engine goes away when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from microcosmos.base import errors
from microcosmos.events.interface import Delivery, Group, GroupSpec, Log


class Outages:
    """A log by way of an engine that may be away.

    Attributes:
        away: it is, now.
        deaf: it does not hear acknowledgements: they are lost.
        limits: what was pulled by.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.away = False
        self.deaf = False
        self.limits: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    @contextlib.asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Any]:
        self.reach()
        async with self.log.group(spec) as group:
            yield _Member(self, group)

    def reach(self) -> None:
        if self.away:
            raise errors.Unavailable("events", "the engine cannot be reached")


class _Member:
    def __init__(self, log: Outages, group: Group) -> None:
        self._log = log
        self._group = group
        self.spec = group.spec

    def __getattr__(self, name: str) -> Any:
        async def say(*said: Any) -> None:
            self._log.reach()
            if not (self._log.deaf and name.startswith("ack")):
                await getattr(self._group, name)(*said)

        return say

    async def pull(self, limit: int) -> Sequence[Delivery]:
        self._log.limits.append(limit)
        self._log.reach()
        found = await self._group.pull(limit)
        self._log.reach()
        return found


async def settled() -> None:
    """Let happen what can happen without time."""
    for _ in range(30):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0)
