"""Calls whose client has gone are cancelled, once they have run for a while.

Granian does not cancel by itself, and to watch a connection costs as much as a short call. So a
call is only noted in a dict; what is still there after a tick or two is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PATIENCE = 0.25
"""Seconds after which, at the latest twice, a call is cancelled if its client has gone."""


class Patience:
    """Watches the clients of long calls.

    Args:
        seconds: the length of a tick.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._seconds = seconds
        # What ends calls, by the connection they answer: begun in this tick, in the last one, and
        # watched.
        self._young: dict[Any, Callable[[], object]] = {}
        self._old: dict[Any, Callable[[], object]] = {}
        self._watched: dict[Any, Any] = {}
        self._ends: dict[Any, Callable[[], object]] = {}
        self._ticking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, proto: Any) -> None:
        """The current task makes a call for this client."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        # Given the loop, asyncio does not look for it, which is a system call.
        task = asyncio.current_task(self._loop)
        assert task is not None
        self.begin_with(proto, task.cancel)

    def begin_with(self, proto: Any, cancel: Callable[[], object]) -> None:
        """A call is made for this client that is ended so."""
        self._young[proto] = cancel
        if not self._ticking:
            self._start()

    def end(self, proto: Any) -> None:
        """The call has ended."""
        if self._young.pop(proto, None) is None and self._old.pop(proto, None) is None:
            self._watched.pop(proto).cancel()
            del self._ends[proto]

    def give_up(self) -> None:
        """End all calls that have no task, whether their clients have gone or not."""
        for cancel in [*self._young.values(), *self._old.values(), *self._ends.values()]:
            if not isinstance(getattr(cancel, "__self__", None), asyncio.Task):
                cancel()

    def _start(self) -> None:
        self._ticking = True
        asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def _tick(self) -> None:
        for proto, cancel in self._old.items():
            self._ends[proto] = cancel
            leaving = self._watched[proto] = proto.client_disconnect()
            leaving.add_done_callback(lambda left, cancel=cancel: left.cancelled() or cancel())
        self._old, self._young = self._young, {}
        self._ticking = False
        if self._old:
            self._start()
