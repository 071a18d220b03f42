"""Namespaces beside `micro`: what answers for each, from its first request to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Policy
from microcosmos.base import context, errors

from .doorman import App

log = logging.getLogger("microcosmos.gateway")

OPENING = 10.0
"""Seconds that a namespace's first request waits until its services are known."""

Open = Callable[[str], AbstractAsyncContextManager[App]]
"""Opens what answers for a namespace; entered, it does."""


class _World:
    """One namespace, while it is there."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.ready: asyncio.Future[App] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def live(self, opened: Open) -> None:
        try:
            async with opened(self.namespace) as app:
                if not self.ready.done():
                    self.ready.set_result(app)
                await self.gone.wait()
        except Exception as exc:  # noqa: BLE001 - told to who waits, whatever it is
            log.warning("the namespace %s cannot be reached: %s", self.namespace, exc)
            if not self.ready.done():
                self.ready.set_exception(errors.from_exception(exc, "gateway"))
                self.ready.exception()  # seen, though nobody may wait any more


class Worlds:
    """The applications of namespaces, opened when they are first asked for.

    Args:
        opened: opens one.
        access: knows which namespaces there are; one that is deleted is closed.
    """

    def __init__(self, opened: Open, access: Access) -> None:
        self._opened = opened
        self._worlds: dict[str, _World] = {}
        access.on_change(self._close_deleted)

    async def get(self, namespace: str) -> App:
        """What answers for a namespace that there is.

        Raises:
            errors.Unavailable: its services could not be found in time.
            errors.Error: it cannot be opened.
        """
        world = self._worlds.get(namespace)
        if world is None:
            world = self._worlds[namespace] = _World(namespace)
            world.task = asyncio.create_task(
                world.live(self._opened), name=f"namespace {namespace}"
            )
            world.task.add_done_callback(partial(self._ended, world))
        if world.ready.done():
            return world.ready.result()
        try:
            return await asyncio.wait_for(asyncio.shield(world.ready), OPENING)
        except TimeoutError:
            detail = f"the namespace {namespace} is not ready yet; try again"
            raise errors.Unavailable("gateway", detail) from None

    async def close(self) -> None:
        """Close all of them."""
        worlds = list(self._worlds.values())
        for world in worlds:
            world.gone.set()
            if not world.ready.done() and world.task is not None:
                world.task.cancel()
        tasks = [world.task for world in worlds if world.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, world: _World, _: object) -> None:
        # The next request tries anew.
        if self._worlds.get(world.namespace) is world:
            del self._worlds[world.namespace]
        if not world.ready.done():
            world.ready.set_exception(errors.Unavailable("gateway", "the gateway is stopping"))
            world.ready.exception()

    def _close_deleted(self, policy: Policy) -> None:
        for namespace, world in [*self._worlds.items()]:
            if namespace not in policy.rules and namespace != context.DEFAULT_NAMESPACE:
                del self._worlds[namespace]
                world.gone.set()


@contextlib.asynccontextmanager
async def open_worlds(opened: Open, access: Access) -> AsyncIterator[Worlds]:
    """Worlds that are closed when the block ends."""
    worlds = Worlds(opened, access)
    try:
        yield worlds
    finally:
        await worlds.close()
