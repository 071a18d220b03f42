"""Removes what is no blob's any more."""

from __future__ import annotations

import logging

from microcosmos.base import errors
from microcosmos.base.clock import Clock
from microcosmos.store.interface import Check, Delete, Op

from . import shelf
from .shelf import Shelf
from .uploads import Uploads

ABANDONED = 3600.0
"""Seconds after its last bytes at which an upload is removed."""

SWEEP_EVERY = 60.0
"""Seconds between two looks for what may be removed."""

_AT_ONCE = 100

logger = logging.getLogger(__name__)


class Sweeper:
    """Removes contents that were replaced, deleted or abandoned; it may be ended anywhere.

    Args:
        on: the records of a table's blobs.
        uploads: to that table.
        clock: what ages go by.
    """

    def __init__(self, on: Shelf, uploads: Uploads, clock: Clock) -> None:
        self._shelf = on
        self._uploads = uploads
        self._clock = clock

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await self.sweep()
            except errors.Error as exc:
                logger.warning("old contents of blobs stay for now: %s", exc)
            await self._clock.sleep(SWEEP_EVERY)

    async def sweep(self) -> int:
        """Remove what is due, and return how many contents that were."""
        async for key in self._shelf.uploads.all_keys(prefix=shelf.opened("")):
            await self._abandon(key)
        removed = 0
        async for content in self._shelf.trash.all_keys():
            removed += await self._remove(content)
        return removed

    async def _abandon(self, key: str) -> None:
        record = await shelf.find(self._shelf.uploads, key)
        state = shelf.opening(record) if record else None
        if state is None or self._clock.time() - state.touched < ABANDONED:
            return
        try:
            await self._uploads.abandon(key.removeprefix(shelf.opened("")), state)
        except errors.Conflict:
            return  # it goes on after all

    async def _remove(self, content: str) -> bool:
        here = self._shelf
        while (record := await shelf.find(here.trash, content)) is not None:
            if shelf.decoded(record, float) > self._clock.time():
                return False
            keys = await here.chunks.list(content, limit=_AT_ONCE)
            ops: list[Op] = [Delete(key, table=here.chunks.scope[1]) for key in keys]
            # Unless a reader has asked meanwhile for it to stay.
            last = Delete(content, version=record.version)
            ops.append(Check(content, record.version) if keys else last)
            try:
                await here.trash.batch(ops)
            except errors.Conflict:
                continue
            if not keys:
                return True
        return False
