"""What a backend of the store implements; `Table` makes a `Store` of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .interface import Op, Order, Record

PURGE_EVERY = 60.0
"""Seconds between removals of expired records; until then they are only hidden."""

Scope = tuple[str, str]
"""A database and a table of it."""

logger = logging.getLogger(__name__)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys, in which order; the fields are the arguments of `Store.read`."""

    prefix: str = ""
    suffix: str = ""
    limit: int = 0
    offset: int = 0
    order: Order = "asc"
    after: str = ""

    def bounds(self) -> tuple[bytes, bytes]:
        """The keys as UTF-8: from the first (included) to the second (excluded).

        One range, whatever was asked, lets an index go straight to the first key of a page.
        """
        low = self.prefix.encode()
        high = low + b"\xff"  # no UTF-8 has this byte
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
    task.cancel()
    await asyncio.wait([task])
