"""Deadlines for many calls at the cost of one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")

_GRAIN = 0.005


class Deadlines(Generic[Key]):
    """Tells which keys are late.

    A timer a call would cost more than the rest of the bookkeeping, and almost every call ends
    long before its deadline. So there is one timer, for the earliest deadline known; when it
    fires, the living keys are looked through once and the timer is set anew.

    Args:
        expire: called with each key that is late; the key is forgotten before.
    """

    def __init__(self, expire: Callable[[Key], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._due: dict[Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")
        self.now = self._loop.time

    def add(self, key: Key, timeout: float) -> None:
        """Expire a key in ``timeout`` seconds unless it is discarded before."""
        due = self.now() + timeout
        self._due[key] = due
        if due < self._at:
            self._arm(due)

    def discard(self, key: Key) -> None:
        """The key came in time."""
        self._due.pop(key, None)

    def close(self) -> None:
        """Stop the timer and forget every key."""
        self._due.clear()
        if self._timer:
            self._timer.cancel()
        self._at = float("inf")

    def _arm(self, due: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._at = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer, self._at = None, float("inf")
        now = self.now() + _GRAIN / 2
        late = [key for key, due in self._due.items() if due <= now]
        for key in late:
            del self._due[key]
        if self._due:
            self._arm(max(min(self._due.values()), now + _GRAIN))
        for key in late:
            self._expire(key)
