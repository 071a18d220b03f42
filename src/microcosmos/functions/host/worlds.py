"""Worlds: the namespaces that functions live in, each open for as long as there is one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from microcosmos.base import errors

log = logging.getLogger("microcosmos.functions")

OPENING = 10.0
"""Seconds that are waited for a namespace that is about to be open."""

_PAUSE = 0.2
_LONGEST_PAUSE = 5.0

W = TypeVar("W")


class _Opened(Generic[W]):
    """A namespace that is to be open."""

    def __init__(self) -> None:
        self.world: W | None = None
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Worlds(Generic[W]):
    """Keeps namespaces open.

    Args:
        opened: opens one, until the block ends.
        entered: told of a namespace that is open.
    """

    def __init__(
        self,
        opened: Callable[[str], AbstractAsyncContextManager[W]],
        entered: Callable[[str, W], None],
    ) -> None:
        self._opened = opened
        self._entered = entered
        self._worlds: dict[str, _Opened[W]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __getitem__(self, namespace: str) -> W | None:
        """A namespace, if it is open."""
        opened = self._worlds.get(namespace)
        return opened.world if opened is not None else None

    def __iter__(self) -> Iterator[W]:
        """Those that are open."""
        return iter([one.world for one in self._worlds.values() if one.world is not None])

    def want(self, namespace: str) -> None:
        """Have a namespace open from now on; what fails is tried again."""
        opened = self._worlds.setdefault(namespace, _Opened())
        if opened.task is None:
            opened.task = asyncio.create_task(
                self._keep(namespace, opened), name=f"namespace {namespace}"
            )

    def drop(self, namespace: str) -> None:
        """Have a namespace open no more."""
        opened = self._worlds.pop(namespace, None)
        if opened is not None and opened.task is not None:
            opened.gone.set()
            if opened.world is None:
                opened.task.cancel()
            self._leaving.add(opened.task)
            opened.task.add_done_callback(self._leaving.discard)

    async def get(self, namespace: str) -> W:
        """A namespace, waited for if it is not open yet.

        Raises:
            errors.Unavailable: it is not, in time.
        """
        # Workers that a host finds when it starts ask before it knows of their functions.
        opened = self._worlds.setdefault(namespace, _Opened())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(opened.ready.wait(), OPENING)
        if opened.world is None:
            detail = f"the namespace {namespace} is not ready yet; try again"
            raise errors.Unavailable("functions", detail)
        return opened.world

    async def close(self) -> None:
        """Close all of them."""
        for namespace in [*self._worlds]:
            self.drop(namespace)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _keep(self, namespace: str, opened: _Opened[W]) -> None:
        pause = _PAUSE
        while not opened.gone.is_set():
            try:
                async with self._opened(namespace) as world:
                    opened.world = world
                    opened.ready.set()
                    self._entered(namespace, world)
                    await opened.gone.wait()
            except errors.Error as error:
                log.info("the namespace %s cannot be reached yet: %s", namespace, error.detail)
            except Exception:
                log.exception("the namespace %s failed", namespace)
            finally:
                opened.world = None
                opened.ready.clear()
            if not opened.gone.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
