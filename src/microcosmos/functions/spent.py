"""What is spent: quotas that are used up, told to who follows the functions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from .interface import Exhausted, Live, Spent

Key = tuple[str, str, str]
"""The namespace, the name of a function and an account, of which at least one is empty."""


class Spending:
    """All quotas that are used up, now.

    Attributes:
        now: which.
    """

    def __init__(self) -> None:
        self.now: list[Exhausted] = []
        self._changes = 0
        self._changed = asyncio.Event()

    @property
    def changes(self) -> int:
        """How often it has changed."""
        return self._changes

    def put(self, spent: Sequence[Exhausted]) -> None:
        """These are, from now on."""
        if [*spent] == self.now:
            return
        self.now = [*spent]
        self._changes += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self, seen: int) -> None:
        """Wait until it has changed since."""
        while self._changes == seen:
            await self._changed.wait()


def by_key(spent: Sequence[Exhausted]) -> dict[Key, Spent]:
    """The same, to look functions up in."""
    return {(one.namespace, one.name, one.account): one.spent for one in spent}


def of(live: Live, known: Mapping[Key, Spent]) -> Spent | None:
    """What of a function is used up: its own quota, its account's or its namespace's."""
    if not known:
        return None
    where = live.namespace
    keys = ((where, live.name, ""), (where, "", live.owner), (where, "", ""))
    found = [known[key] for key in keys if key in known]
    # They are all to begin anew before it runs again.
    return max(found, key=lambda one: one.until, default=None)
