"""A service as a program: joins the live platform, or runs alone behind a small HTTP door."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any, cast

from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import stop_asked
from microcosmos.base.tasks import background

from .interface import Platform, Runnable
from .live import join
from .membership import membership
from .memory import in_memory

logger = logging.getLogger("microcosmos.service")

THREADS = 256
"""The most threads that handlers which are not async run in."""


def run(*services: Runnable) -> None:
    """Run services in this process until SIGTERM or Ctrl-C; exit 1 with one line on failure."""
    log.setup()
    collector.calm()
    try:
        _run_loop(_serve(services))
    except KeyboardInterrupt:
        sys.exit(130)
    except errors.Error as error:
        logger.error("%s", error.detail)
        sys.exit(1)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(services: tuple[Runnable, ...]) -> None:
    loop = asyncio.get_running_loop()
    threads = min(THREADS, max(service.concurrency for service in services))
    loop.set_default_executor(ThreadPoolExecutor(threads, "handler"))
    async with stop_asked(interrupts=True) as stop:
        try:
            async with AsyncExitStack() as stack:
                async with _unless(stop):
                    await _open(stack, services)
                await stop.wait()
        except asyncio.CancelledError:
            if not stop.is_set():
                raise


async def _open(stack: AsyncExitStack, services: tuple[Runnable, ...]) -> None:
    """Join the platform and answer, until the stack is left."""
    here = membership()
    platform: Platform
    if here is None:
        platform = await stack.enter_async_context(in_memory())
    else:
        platform = await stack.enter_async_context(join(here, services[0].name))
    # The runtime runs one service a process, and its name for it wins.
    given = (here.name, here.version) if here and len(services) == 1 else ("", "")
    for service in services:
        await stack.enter_async_context(service.on(platform, name=given[0], version=given[1]))
        logger.info("%s answers", given[0] or service.name)
    if here is None:
        await stack.enter_async_context(_door(platform))


@asynccontextmanager
async def _unless(stop: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the block when it is asked to stop: a platform that stops too is waited for in vain.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    assert task is not None

    async def give_up() -> None:
        await stop.wait()
        task.cancel()

    async with background(give_up(), "stop"):
        yield


def _door(platform: Platform) -> AbstractAsyncContextManager[None]:
    """The HTTP door of a service that runs alone; the gateway provides it by entry point."""
    (entry,) = entry_points(group="microcosmos.door", name="http")
    address = os.environ.get("MICRO_API_ADDRESS", "")
    door = entry.load()(platform.client, platform.table, address)
    return cast("AbstractAsyncContextManager[None]", door)
