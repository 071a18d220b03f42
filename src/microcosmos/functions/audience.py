"""The audience of the feed: who follows it, and what each of them knows by now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

PATIENCE = 1.0
"""Seconds that a change waits, at most, until the gateways and hosts of its core know of it."""


class Audience:
    """Those who follow and have said what they know: a change is done once all of them know it."""

    def __init__(self) -> None:
        self._heard: dict[object, int] = {}
        self._waiting: set[tuple[int, asyncio.Future[None]]] = set()

    @contextlib.contextmanager
    def seat(self) -> Iterator[Callable[[int], None]]:
        """Somebody follows until the block ends, and tells here what he has heard of."""
        who = object()

        def heard(sequence: int) -> None:
            self._heard[who] = sequence
            self._look()

        try:
            yield heard
        finally:
            self._heard.pop(who, None)
            self._look()

    async def knows(self, sequence: int) -> None:
        """Return once all who follow know of a change; one who does not hear is not waited for."""
        if self._all(sequence):
            return
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = sequence, known
        self._waiting.add(waiting)
        try:
            await asyncio.wait((known,), timeout=PATIENCE)
        finally:
            self._waiting.discard(waiting)

    def _all(self, sequence: int) -> bool:
        return all(heard >= sequence for heard in self._heard.values())

    def _look(self) -> None:
        for sequence, known in self._waiting:
            if not known.done() and self._all(sequence):
                known.set_result(None)
