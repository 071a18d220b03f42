"""The feed: which functions run, told to gateways and to the host as it changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator

from microcosmos.base import errors
from microcosmos.store import Change

from .audience import Audience
from .heads import ID, Tables, found, live
from .interface import Exhausted, News
from .spent import Spending

SLICE = 500
"""Functions that are told of at once to who follows."""

_EPOCH = "epoch"


class Feed:
    """Tells of functions straight from the store: nothing is held for who follows.

    A sequence is a version of the store, so that a core that is started anew, or another one,
    goes on where the one before was; the epoch is that of the store.

    Args:
        tables: where functions are kept.
        spending: which quotas are used up.

    Attributes:
        audience: who follows.
    """

    def __init__(self, tables: Tables, spending: Spending | None = None) -> None:
        self._spending = spending or Spending()
        self._heads = tables.heads
        self._about = tables.about
        self._closed = asyncio.Event()
        self.audience = Audience()

    async def follow(self, epoch: str = "", sequence: int = 0) -> AsyncGenerator[News, None]:
        """All functions of all namespaces, then what changes, for ever.

        Args:
            epoch: of what is known already.
            sequence: of the last change that is known; only those after it are told.

        Raises:
            errors.Unavailable: the feed is closed.
        """
        own = await self._epoch()
        since = sequence if epoch == own else None
        seen = -1
        while True:
            if since is None:
                since, seen = await self._heads.version(), self._spending.changes
                async for news in self._all(own, since):
                    yield news
            try:
                async with self._heads.watch(since=since) as changes:
                    async for change in self._until_closed(changes, seen):
                        if change is not None:
                            since = change.version
                            yield _news(own, change)
                        else:
                            # Whoever comes back is told too: nobody knows what he has heard.
                            seen = self._spending.changes
                            yield News(epoch=own, sequence=since, spent=self._spending.now)
            except errors.Conflict:
                # Too long ago, or not yet: the store has been put back.
                since = None

    async def _all(self, epoch: str, sequence: int) -> AsyncIterator[News]:
        """All functions, in slices; what changes meanwhile is told after them once more."""
        after, fresh, more = "", True, True
        spent: list[Exhausted] | None = self._spending.now
        while more:
            records = await self._heads.read(after=after, limit=SLICE)
            more = len(records) == SLICE
            known = [live(found(one.key, one.value, one.version)) for one in records]
            yield News(
                epoch=epoch, sequence=sequence, fresh=fresh, more=more, live=known, spent=spent
            )
            after, fresh, spent = records[-1].key if records else "", False, None

    async def _until_closed(
        self, changes: AsyncIterator[Change], seen: int
    ) -> AsyncIterator[Change | None]:
        """Changes as they come; None where the quotas that are used up are others by now."""
        closed = asyncio.ensure_future(self._closed.wait())
        change = asyncio.ensure_future(anext(changes))
        spent = asyncio.ensure_future(self._spending.changed(seen))
        try:
            while True:
                waited = (change, spent, closed)
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if change.done():
                    yield change.result()
                    change = asyncio.ensure_future(anext(changes))
                elif spent.done():
                    spent = asyncio.ensure_future(self._spending.changed(self._spending.changes))
                    yield None
                else:
                    raise errors.Unavailable(ID, "the core stops")
        finally:
            for waiting in (change, spent, closed):
                waiting.cancel()

    async def _epoch(self) -> str:
        """What tells this store from another."""

        def made(known: str | None) -> str:
            return known or secrets.token_hex(8)

        epoch: str = await self._about.modify(_EPOCH, made)
        return epoch

    def close(self) -> None:
        """Let go who follows."""
        self._closed.set()


def _news(epoch: str, change: Change) -> News:
    if change.record is None:
        namespace, _, name = change.key.partition("/")
        return News(epoch=epoch, sequence=change.version, gone=[(namespace, name)])
    record = change.record
    known = [live(found(record.key, record.value, record.version))]
    return News(epoch=epoch, sequence=change.version, live=known)
