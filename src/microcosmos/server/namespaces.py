"""Namespaces of a core: opened as they are made, closed once they are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from microcosmos.auth.interface import Policy
from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.registry.memory import MemoryRegistry

from .connections import Connections

logger = logging.getLogger("microcosmos.core")

PAUSE = 1.0
"""Seconds until a namespace that could not be opened or closed is tried again."""


class Opener(Protocol):
    """What lives in namespaces: the core."""

    @property
    def registry(self) -> MemoryRegistry: ...

    async def open(self, namespace: str) -> object: ...

    async def close(self, namespace: str) -> None: ...


class Namespaces:
    """Keeps a core in the namespaces that there are.

    Args:
        core: lives in them.
        connections: the engine's accounts.
        clear: stops everything that runs in one.
        forget: removes what was published in one.
    """

    def __init__(
        self,
        core: Opener,
        connections: Connections,
        clear: Callable[[str], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._core = core
        self._connections = connections
        self._clear = clear
        self._forget = forget
        self._wanted = {DEFAULT_NAMESPACE}
        self._open = {DEFAULT_NAMESPACE}
        self._stirred = asyncio.Event()

    def follow(self, policy: Policy) -> None:
        """Take note of the namespaces that there are."""
        wanted = {DEFAULT_NAMESPACE, *policy.rules}
        if wanted != self._wanted:
            self._wanted = wanted
            self._stirred.set()

    async def keep(self) -> None:
        """Open and close, for ever."""
        while True:
            try:
                # What failed is tried again.
                late = PAUSE if self._wanted != self._open else None
                await asyncio.wait_for(self._stirred.wait(), late)
            except TimeoutError:
                pass
            self._stirred.clear()
            await self.settle()

    async def settle(self) -> None:
        """Open those that are wanted and close the others; what fails is left for later."""
        wanted = set(self._wanted)
        gone = (self._open | set(self._connections.left(wanted))) - wanted
        await asyncio.gather(
            *(self._tried(self._enter, name) for name in wanted - self._open),
            *(self._tried(self._leave, name) for name in gone),
        )

    async def _enter(self, name: str) -> None:
        await self._core.open(name)
        self._open.add(name)

    async def _leave(self, name: str) -> None:
        await self._clear(name)
        await self._core.close(name)
        await self._forget(name)
        await self._connections.remove(name)
        self._core.registry.drop(name)
        self._open.discard(name)

    async def _tried(self, step: Callable[[str], Awaitable[None]], name: str) -> None:
        try:
            await step(name)
        except (errors.Error, OSError) as exc:
            why = exc.detail if isinstance(exc, errors.Error) else exc
            logger.warning("namespace %s: %s", name, why)
