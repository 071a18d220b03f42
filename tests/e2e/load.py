"""Constant load, and the journal of its answers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import NamedTuple

import httpx

from .live import client, until


class Answer(NamedTuple):
    """One call of the journal: when it began and ended, and what came of it."""

    began: float
    ended: float
    status: int
    text: str

    @property
    def good(self) -> bool:
        return self.status == 200


class Load:
    """Calls a path in a few threads, one call after the other, while the block runs."""

    def __init__(self, url: str, path: str, threads: int = 2) -> None:
        self.journal: list[Answer] = []
        self._url, self._path = url, path
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.more(20)
        return self

    def __exit__(self, *ending: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more calls have been answered well."""
        goal = self._good() + count
        until(lambda: self._good() >= goal)

    def _good(self) -> int:
        return sum(answer.good for answer in self.journal)

    def _call(self) -> None:
        with client(self._url) as web:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    response = web.get(self._path)
                    status, text = response.status_code, response.text
                except httpx.TransportError as exc:
                    status, text = 0, f"{type(exc).__name__}: {exc}"
                self.journal.append(Answer(began, time.monotonic(), status, text))
                self._stop.wait(0.002)

    @property
    def errors(self) -> list[Answer]:
        return [answer for answer in self.journal if not answer.good]

    @property
    def window(self) -> float:
        """Seconds from the first error's begin to the last one's end."""
        return self.missed()

    def missed(self, since: int = 0) -> float:
        """The same of the calls that ended after so many others."""
        failed = [answer for answer in self.journal[since:] if not answer.good]
        return max(a.ended for a in failed) - min(a.began for a in failed) if failed else 0.0

    @property
    def slowest(self) -> float:
        return max(answer.ended - answer.began for answer in self.journal)

    def told(self) -> str:
        """The errors in one line, for a report."""
        kinds = Counter((answer.status, answer.text[:120]) for answer in self.errors)
        return (
            f"{len(self.errors)} of {len(self.journal)} calls failed within {self.window:.3f} s, "
            f"the slowest took {self.slowest:.3f} s: {dict(kinds)}"
        )
