"""Counting: how counts are told to the core, and those that no worker can tell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from microcosmos.base import errors
from microcosmos.base.tasks import background

from .failing import is_uncounted, kind_of
from .interface import Counts

log = logging.getLogger("microcosmos.functions")

SOON = 0.5
"""Seconds until failures are told to the core, at most one second with what that takes."""

PAUSE = 0.2
"""Seconds until counts that the core did not take are sent again; they double."""

LAST = 2.0
"""Seconds that the last counts may take when their process ends."""

LONGEST_PAUSE = 2.0
"""The longest such pause, in seconds."""

Count = Callable[[str, int, Mapping[str, Counts]], Awaitable[None]]
"""Adds the counts of a worker, named by its id and their sequence, durably and only once."""


def key_of(namespace: str, name: str, number: int = 0) -> str:
    """What the counts of a version are told by; with 0, those of no version in particular."""
    return f"{namespace}/{name}/v{number}" if number else f"{namespace}/{name}"


async def tell(count: Count, worker: str, sequence: int, counts: Mapping[str, Counts]) -> None:
    """Tell the core counts, until it has them durably, or will never take them."""
    pause = PAUSE
    while True:
        try:
            await count(worker, sequence, counts)
            return
        except (errors.BadRequest, errors.Forbidden) as error:
            log.error("counts of functions were refused, and are lost: %s", error.detail)
            return
        except errors.Error as error:
            log.debug("counts of functions cannot be told yet: %s", error)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, LONGEST_PAUSE)


Failed = Callable[[str, str, int, errors.Error], None]
"""Is told of requests that were answered by an error; `Unworked.failed`."""


def unheard(namespace: str, name: str, number: int, error: errors.Error) -> None:
    """Where nobody counts."""


class Unworked:
    """Counts requests that failed without a worker that could say so.

    It is for whoever has to answer in the worker's place: there was none for them, it died over
    them, or a quota is used up. What they failed by is told soon; what a process that is killed has
    not told yet is lost.

    Args:
        count: gives counts to the core.
        who: begins the name that they are counted by.
    """

    def __init__(self, count: Count, who: str) -> None:
        self._count = count
        self._worker = f"{who}-{secrets.token_hex(8)}"
        self._sequence = 0
        self._counts: dict[str, Counts] = {}
        self._waiting: dict[str, Counts] = {}
        self._telling = asyncio.Lock()
        self._news = asyncio.Event()

    def failed(self, namespace: str, name: str, number: int, error: errors.Error) -> None:
        """A request was answered by an error; what a worker has said is counted by it.

        Args:
            namespace: where the function lives.
            name: of it.
            number: of the version; 0 if none was chosen yet.
            error: by which.
        """
        if is_uncounted(error):
            counts = self._counts.setdefault(key_of(namespace, name, number), Counts())
            counts.requests += 1
            counts.fail(kind_of(error.id))
            self._news.set()

    async def keep(self) -> None:
        """Tell them, for ever."""
        while True:
            await self._news.wait()
            await asyncio.sleep(SOON)
            await self.told()

    async def told(self) -> None:
        """Tell what there is."""
        self._news.clear()
        async with self._telling:
            if not self._waiting:
                self._waiting, self._counts = self._counts, {}
                self._sequence += 1
            if self._waiting:
                await tell(self._count, self._worker, self._sequence, self._waiting)
                self._waiting = {}

    async def last(self) -> None:
        """Tell what is left, as the process ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.told(), LAST)


@contextlib.asynccontextmanager
async def counting(count: Count, who: str) -> AsyncIterator[Unworked]:
    """Count requests that no worker has counted, until the block ends.

    Args:
        count: gives counts to the core.
        who: begins the name that they are counted by.
    """
    unworked = Unworked(count, who)
    async with background(unworked.keep(), "counting"):
        yield unworked
    await unworked.last()
