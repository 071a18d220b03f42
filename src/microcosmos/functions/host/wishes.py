"""Wishes: what is to be so, by name, and is brought about in the background, a few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from microcosmos.base import errors

log = logging.getLogger("microcosmos.functions")

PAUSE = 0.2
"""Seconds until what could not be brought about is tried again; they double."""

LONGEST_PAUSE = 10.0
"""The longest such pause, in seconds."""

T = TypeVar("T")


class Wishes(Generic[T]):
    """The last wish for each name counts, and no two for one name are fulfilled at once.

    Args:
        fulfil: brings a wish about; what it raises is logged, and tried again.
        what: they are, for the log.
        at_once: how many are fulfilled at a time.
    """

    def __init__(
        self, fulfil: Callable[[str, T], Awaitable[None]], what: str, at_once: int = 8
    ) -> None:
        self._fulfil = fulfil
        self._what = what
        self._at_once = at_once
        self._open: dict[str, T] = {}
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Those that are tried again: when, and after which pause.
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._pauses: dict[str, float] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def wish(self, name: str, wish: T) -> None:
        """Wish something for a name, in place of what was wished before."""
        self._pauses.pop(name, None)
        if later := self._later.pop(name, None):
            later.cancel()
        self._open[name] = wish
        self._idle.clear()
        self._go_on()

    async def settled(self) -> None:
        """Wait until all has been brought about."""
        await self._idle.wait()

    async def close(self) -> None:
        """Wish no more; what is being brought about is given up."""
        self._closed = True
        self._open.clear()
        for later in self._later.values():
            later.cancel()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go_on(self) -> None:
        if len(self._tasks) >= self._at_once or self._closed:
            return
        for name in self._open:
            if name not in self._busy:
                break
        else:
            return
        task = asyncio.create_task(self._work(), name=self._what)
        self._tasks.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._go_on()
        if not (self._open or self._busy or self._later):
            self._idle.set()

    async def _work(self) -> None:
        while name := next((name for name in self._open if name not in self._busy), ""):
            wish = self._open.pop(name)
            self._busy.add(name)
            try:
                await self._fulfil(name, wish)
                self._pauses.pop(name, None)
            except Exception as exc:  # noqa: BLE001 - nobody else would hear of it
                self._failed(name, wish, exc)
            finally:
                self._busy.discard(name)

    def _failed(self, name: str, wish: T, exc: Exception) -> None:
        pause = self._pauses.get(name, PAUSE)
        self._pauses[name] = min(2 * pause, LONGEST_PAUSE)
        if isinstance(exc, errors.Unavailable | errors.DeadlineExceeded):
            log.debug("%s of %s: %s", self._what, name, exc)
        elif pause == PAUSE:
            unforeseen = None if isinstance(exc, errors.Error) else exc
            said = "%s of %s could not be had yet: %s"
            log.warning(said, self._what, name, exc, exc_info=unforeseen)
        if not self._closed and name not in self._open:
            loop = asyncio.get_running_loop()
            self._later[name] = loop.call_later(pause, self._again, name, wish)

    def _again(self, name: str, wish: T) -> None:
        del self._later[name]
        self._open[name] = wish
        self._go_on()
