"""What a backend of the store implements; `Table` makes a `Store` of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .interface import Change, Op, Order, Record

PURGE_EVERY = 60.0
"""Seconds between removals of expired records; until then they are only hidden."""

Scope = tuple[str, str]
"""A database and a table of it."""

logger = logging.getLogger(__name__)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys, in which order; the fields are the arguments of `Store.read`."""

    prefix: str = ""
    suffix: str = ""
    start: str = ""
    end: str = ""
    limit: int = 0
    offset: int = 0
    order: Order = "asc"
    after: str = ""
    max_bytes: int = 0

    def bounds(self) -> tuple[bytes, bytes]:
        """The keys as UTF-8: from the first (included) to the second (excluded).

        One range, whatever was asked, lets an index go straight to the first key of a page.
        """
        low = self.prefix.encode()
        high = low + b"\xff"  # no UTF-8 has this byte
        if self.start:
            low = max(low, self.start.encode())
        if self.end:
            high = min(high, self.end.encode())
        if self.after and self.order == "asc":
            low = max(low, self.after.encode() + b"\x00")
        elif self.after:
            high = min(high, self.after.encode())
        return low, high


class Backend(Protocol):
    """Where records are kept. It gets checked input and never shows an expired record."""

    async def one(self, scope: Scope, key: str) -> Record | None:
        """The record of a key."""

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        """The records that match."""

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        """The keys that match."""

    async def count(self, scope: Scope, query: Query) -> int:
        """How many match; limit and offset do not count."""

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        """Do all or nothing, durably, and return the version; the promises of `Store.batch`."""

    async def tables(self, database: str) -> list[str]:
        """The tables with a record, sorted."""

    async def databases(self) -> list[str]:
        """The databases with a record, sorted."""

    async def version(self) -> int:
        """The version of the last change; all changes up to it can be read."""

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """The changes in a table; the promises of `Store.watch`."""

    def frozen(self) -> AbstractAsyncContextManager[Backend]:
        """A view that no write changes and none can be made by, or itself if it has none."""


class Reads(Protocol):
    """The half of a `Backend` that reads."""

    async def one(self, scope: Scope, key: str) -> Record | None: ...
    async def records(self, scope: Scope, query: Query) -> list[Record]: ...
    async def keys(self, scope: Scope, query: Query) -> list[str]: ...
    async def count(self, scope: Scope, query: Query) -> int: ...
    async def tables(self, database: str) -> list[str]: ...
    async def databases(self) -> list[str]: ...
    async def version(self) -> int: ...


class FrozenBackend:
    """A backend that only reads, for `Backend.frozen`.

    Args:
        view: reads as of one version.
    """

    def __init__(self, view: Reads) -> None:
        self.one, self.records, self.keys = view.one, view.records, view.keys
        self.count, self.version = view.count, view.version
        self.tables, self.databases = view.tables, view.databases
        self._view = view

    def __repr__(self) -> str:
        return f"{self._view!r}, frozen"

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        raise _frozen()

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        raise _frozen()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        yield self


def _frozen() -> errors.BadRequest:
    return errors.BadRequest("store", "this view of the store is frozen: it is only for reading")


def check_version(op: Op, current: int) -> None:
    """Refuse an op that names another version than the record has (0: there is none).

    Raises:
        errors.Conflict: it does.
    """
    if op.version is None or op.version == current:
        return
    have = f"is at version {current}" if current else "does not exist"
    want = f"not {op.version}" if op.version else "and should not exist"
    raise errors.Conflict("store", f"{shown(op.key)} {have}, {want}")


def shown(key: str) -> str:
    """A key as error texts show it: on one line, and not all of a long one."""
    return repr(key if len(key) <= 80 else key[:80] + "…")


def seconds_left(expires: float, now: float) -> float:
    """`Record.expiry` of a record that is there until ``expires``, for ever if that is inf."""
    # Milliseconds hide the rounding of seconds since the epoch; 0 would mean for ever.
    return 0 if expires == float("inf") else max(round(expires - now, 3), 0.001)


async def purge_forever(clock: Clock, purge: Callable[[], Awaitable[None]]) -> None:
    """Call ``purge`` now and every `PURGE_EVERY` seconds, until cancelled."""
    while True:
        try:
            await purge()
        except errors.Error as exc:
            logger.warning("expired records stay for now: %s", exc)
        await clock.sleep(PURGE_EVERY)


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    while not task.done():
        # Again, because `asyncio.wait_for` of Python 3.11 loses one that comes with a result.
        task.cancel()
        await asyncio.wait([task], timeout=1)
