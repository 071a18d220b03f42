"""Background tasks with an owner: started by entering a block, ended by leaving it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

log = logging.getLogger("microcosmos")

T = TypeVar("T")


def apart(work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
    """A task that has nothing of the call that it was begun in, such as its deadline.

    It is for what many calls wait for, and for what goes on after them.
    """
    return asyncio.create_task(work, name=name or None, context=contextvars.Context())


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, Any], name: str) -> AsyncIterator[None]:
    """Run ``work`` beside the block and cancel it when the block ends.

    A failure of the work is logged, with its stack, as soon as it happens.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=exc)
