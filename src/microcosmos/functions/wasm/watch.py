"""Ends what takes too long: a thread that looks on while code of a function runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .limits import OFTEN, QUIET, SELDOM


class Watch:
    """Looks on, from the first entry on; starts a thread then.

    Args:
        end: ends what runs in the engine.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._until = 0.0
        self._entries = 0
        self._waits = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, seconds: float) -> None:
        """An entry begins, which may take so much of the processor."""
        with self._lock:
            self._until = time.process_time() + seconds
            self._entries += 1
        if self._waits:
            self._wake.set()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()

    def over(self) -> None:
        """It is over: who comes next is not ended in its place."""
        with self._lock:
            self._until = 0.0

    def _run(self) -> None:
        known, since = 0, time.monotonic()
        while True:
            time.sleep(self._look())
            if self._entries != known or self._until:
                known, since = self._entries, time.monotonic()
            elif time.monotonic() - since > QUIET:
                self._waits = True
                # Who began before that was said has not seen it.
                if self._entries == known:
                    self._wake.wait()
                self._wake.clear()
                self._waits = False

    def _look(self) -> float:
        """End what has had its time; seconds until the next look."""
        with self._lock:
            if not self._until:
                return SELDOM
            left = self._until - time.process_time()
            if left <= 0:
                self._end()
            return min(max(left, OFTEN), SELDOM)
