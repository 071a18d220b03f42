"""The workers of one owner and engine: as many as its functions need, and none without need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from microcosmos.base import errors
from microcosmos.base.tasks import apart
from microcosmos.functions.interface import Unit
from microcosmos.functions.lines import LOST
from microcosmos.functions.replay import MARK

from .worker import Worker

log = logging.getLogger("microcosmos.functions")

HEAPS = {"deno": 256 * 1024 * 1024, "monty": 256 * 1024 * 1024}
"""Bytes of the one heap that the functions of an owner share, by engine."""

FREE_DEATHS = 3
"""Young deaths in a row of an owner's workers after which the next one has to wait."""

FIRST_PAUSE = 0.2
"""Seconds that it waits; they double."""

LONGEST_PAUSE = 10.0
"""The longest such pause, in seconds."""

_WAITED_FOR = 1.0
"""Seconds that requests wait for a worker which may not be started yet; else they are refused."""

CHECKER = "$check"
"""The account whose workers look at sources that are not deployed yet."""

YOUNG = 5.0
"""Seconds of life after which the death of a worker is no reason to wait."""


# Behind the name of a function that has a heap of its own are the mebibytes of that.
_HEAP = ":"
_MEBIBYTE = 1024 * 1024


class Owner(NamedTuple):
    """Whose functions share workers.

    Attributes:
        namespace: where they live.
        account: whom they belong to.
        kind: of the workers: an engine, or ``wasm``.
        apart: the function that has them for itself, with ``~`` behind it for its replays; empty
            if all others share them.
    """

    namespace: str
    account: str
    kind: str
    apart: str = ""

    @property
    def name(self) -> str:
        """What its workers are called."""
        return "/".join(filter(None, (self.namespace, self.account, self.apart)))

    @property
    def heap(self) -> int:
        """Bytes of the heap of its workers, where that is one function's; else 0."""
        return int(self.apart.partition(_HEAP)[2] or 0) * _MEBIBYTE


def owner_of(name: str, kind: str) -> Owner:
    """The owner of a worker, by its name and kind."""
    namespace, _, rest = name.partition("/")
    account, _, apart = rest.partition("/")
    return Owner(namespace, account, kind, apart)


def owner_for(unit: Unit) -> Owner:
    """Whose worker a version runs in."""
    alone = unit.isolation == "process" or unit.strikes > 0
    heap = unit.limits.heap
    if unit.runner == "deno":
        # What shares a process shares its heap, which cannot be any larger afterwards.
        alone = alone or heap > HEAPS["deno"]
    apart = unit.name if alone else ""
    if unit.replay is not None and unit.runner == "deno":
        # There it is the whole process whose time and randomness are not the system's.
        apart = f"{unit.name}{MARK}"
    if apart and unit.runner == "deno":
        apart += f"{_HEAP}{-(-heap // _MEBIBYTE)}"
    return Owner(unit.namespace, unit.owner, unit.runner, apart)


class Group:
    """The workers of an owner.

    Attributes:
        owner: whose.
        workers: that live, the oldest first; those that retire too.
        hot: seconds for which its workers have been busy.
        calm: seconds for which they have had little to do.

    Args:
        owner: whose.
        start: starts a worker.
    """

    def __init__(self, owner: Owner, start: Callable[[Owner], Awaitable[Worker]]) -> None:
        self.owner = owner
        self.workers: list[Worker] = []
        self.hot = 0.0
        self.calm = 0.0
        self._start = start
        self._starting: asyncio.Task[Worker] | None = None
        self._deaths = 0
        self._closed_until = 0.0

    @property
    def usable(self) -> list[Worker]:
        """Those that take something new."""
        return [worker for worker in self.workers if worker.usable]

    @property
    def starting(self) -> bool:
        """Whether one is about to be there."""
        return self._starting is not None

    @property
    def rested(self) -> bool:
        """Whether the next worker would not have to wait."""
        return time.monotonic() >= self._closed_until

    async def any(self) -> Worker:
        """One that takes something new, started if there is none.

        Raises:
            errors.Unavailable: none can be started now.
        """
        usable = self.usable
        if usable:
            return min(usable, key=lambda worker: len(worker.running))
        return await self.another()

    async def another(self) -> Worker:
        """One more worker; who asks while one is being started gets that.

        Raises:
            errors.Unavailable: it cannot be started now.
        """
        if self._starting is None:
            left = self._closed_until - time.monotonic()
            if left > _WAITED_FOR:
                detail = f"its worker ended as soon as it was started; try again in {left:.1f} s"
                raise errors.Unavailable(LOST, detail)
            self._starting = apart(self._begin(left), f"worker of {self.owner.name}")
        return await asyncio.shield(self._starting)

    async def _begin(self, pause: float) -> Worker:
        try:
            if pause > 0:
                await asyncio.sleep(pause)
            worker = await self._start(self.owner)
        except errors.Error as error:
            log.warning("no worker can be started for %s: %s", self.owner.name, error.detail)
            self._close()
            raise
        finally:
            self._starting = None
        self.workers.append(worker)
        if worker.line.ended.done():
            self.lost(worker)
            self.died(0.0)
            raise errors.Unavailable(LOST, "its worker ended as soon as it was started")
        return worker

    def lost(self, worker: Worker) -> None:
        """A worker has ended."""
        if worker in self.workers:
            self.workers.remove(worker)
            if worker.retiring:
                self._deaths = 0

    def died(self, lived: float) -> None:
        """A worker has ended by itself: if it was young, the next one may have to wait."""
        if lived >= YOUNG:
            self._deaths = 0
        else:
            self._close()

    def _close(self) -> None:
        self._deaths += 1
        if self._deaths >= FREE_DEATHS:
            pause = FIRST_PAUSE * 2 ** min(self._deaths - FREE_DEATHS, 16)
            self._closed_until = time.monotonic() + min(pause, LONGEST_PAUSE)
