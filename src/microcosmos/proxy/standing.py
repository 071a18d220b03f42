"""Streams that stand open until their client ends them: reflection, and watches of health."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Standing:
    """Ends standing streams when the proxy closes, so that it need not wait for their clients.

    Their tasks are not cancelled: gRPC sends no status for such a one, and its client waits on.
    """

    def __init__(self) -> None:
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let every stream come to its end."""
        self._closing.set()

    async def wait(self, coming: Coroutine[Any, Any, T], grace: float = 0.0) -> T | None:
        """What a stream waits for, or None once the proxy closes.

        Args:
            coming: is cancelled then.
            grace: seconds that it is still given.
        """
        task = asyncio.ensure_future(coming)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            if grace and not task.done():
                await asyncio.wait((task,), timeout=grace)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
            await asyncio.gather(task, closing, return_exceptions=True)
