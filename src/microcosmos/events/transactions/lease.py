"""Leases: one process at a time does something, and another one when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable

from microcosmos.base import errors
from microcosmos.base.tasks import background
from microcosmos.store import Store

from .transaction import find

LEASE = 6.0
"""Seconds after which a process that is gone without a word has lost what it held."""

_MARGIN = 0.2
_GOODBYE = 2.0

logger = logging.getLogger(__name__)


class Lease:
    """A record with an expiry that one process at a time writes; the store's clock alone counts.

    Args:
        table: where the record is.
        key: its name.
        seconds: it is held without a renewal; it is renewed three times in that.
    """

    def __init__(self, table: Store, key: str, *, seconds: float = LEASE) -> None:
        self._table = table
        self._key = key
        self._seconds = seconds
        self._name = uuid.uuid4().hex.encode()
        self._version = 0

    async def hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease and work while it is held; returns when the work ends or it is lost.

        Work that has not ended when the lease is lost is cancelled.
        """
        limit = asyncio.timeout_at(await self._take())
        try:
            async with limit, background(self._renew(limit), f"lease of {self._key}"):
                await work()
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning("the lease of %s is lost", self._key)
        finally:
            await self._release()

    async def _take(self) -> float:
        while True:
            until = self._until()
            try:
                self._version = await self._write(0)
                return until
            except errors.Conflict:
                record = await find(self._table, self._key)
            if record is not None and record.value == self._name:
                self._version = record.version
                return until
            if record is not None:
                await self._freed()

    async def _renew(self, limit: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                until = await self._renewed()
            except errors.Error as exc:
                logger.info("the lease of %s is not renewed yet: %s", self._key, exc.detail)
                continue
            with contextlib.suppress(RuntimeError):  # it has run out already
                limit.reschedule(asyncio.get_running_loop().time() if until is None else until)
            if until is None:
                return

    async def _renewed(self) -> float | None:
        """Until when it is held now; None if somebody else has it."""
        while True:
            until = self._until()
            try:
                self._version = await self._write(self._version)
                return until
            except errors.Conflict:
                record = await find(self._table, self._key)
            if record is None or record.value != self._name:
                return None
            # An earlier one whose answer was lost has done it.
            self._version = record.version

    async def _freed(self) -> None:
        """Wait until it may be free."""
        async with self._table.watch(prefix=self._key) as changes:
            record = await find(self._table, self._key)
            if record is None:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(record.expiry + 0.01):
                    async for change in changes:
                        if change.key == self._key and change.record is None:
                            return

    async def _release(self) -> None:
        with contextlib.suppress(errors.Error, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await self._give_up()

    async def _give_up(self) -> None:
        try:
            await self._table.delete(self._key, version=self._version)
        except errors.Conflict:
            # A renewal that was under way has changed it, or it is another's now.
            record = await find(self._table, self._key)
            if record is not None and record.value == self._name:
                await self._table.delete(self._key, version=record.version)

    async def _write(self, version: int) -> int:
        return await self._table.write(self._key, self._name, expiry=self._seconds, version=version)

    def _until(self) -> float:
        # Before the write that it counts from, so that it ends here before it does in the store.
        return asyncio.get_running_loop().time() + self._seconds * (1 - _MARGIN)
