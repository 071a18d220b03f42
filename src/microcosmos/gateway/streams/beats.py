"""Beats: one timer for everything that has to show now and then that it is alive."""

from __future__ import annotations

import asyncio
from typing import Protocol

EVERY = 15.0
"""Seconds between pings of WebSockets, and between comments in Server-Sent Events."""


class Beating(Protocol):
    """What is told of each beat."""

    def beat(self) -> None:
        """A beat has come; this must not wait."""


class Beats:
    """Tells all its members of each beat; without members no timer runs.

    Args:
        every: seconds between beats.
    """

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._members: set[Beating] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Beating) -> None:
        """From the next beat on, it is told."""
        self._members.add(member)
        if self._timer is None:
            self._wait()

    def discard(self, member: Beating) -> None:
        """It is told no more."""
        self._members.discard(member)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._beat)

    def _beat(self) -> None:
        self._timer = None
        for member in list(self._members):
            member.beat()
        if self._members:
            self._wait()
