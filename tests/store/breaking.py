"""A store that goes away after so many writes, as it does when its process is killed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from microcosmos.base import errors
from microcosmos.store import Op, Query, Record, Scope
from microcosmos.store.memory import MemoryStore


class BreakingStore(MemoryStore):
    """A store in memory that refuses writes when told to.

    Attributes:
        left: how many writes it still does.
        told: whether the last one of these is answered, or done without anybody hearing of it.
        read: called once, after a record of no part of a table was read and before it is given.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.left = 1_000_000
        self.told = True
        self.read: Callable[[], Awaitable[None]] | None = None

    async def one(self, scope: Scope, key: str) -> Record | None:
        record = await super().one(scope, key)
        await self._after_read(scope)
        return record

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        records = await super().records(scope, query)
        await self._after_read(scope)
        return records

    async def _after_read(self, scope: Scope) -> None:
        if self.read is not None and "$" not in scope[1]:
            read, self.read = self.read, None
            await read()

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        if self.left <= 0:
            raise errors.Unavailable("store", "the store has gone away")
        self.left -= 1
        version = await super().apply(scope, ops)
        if self.left == 0 and not self.told:
            raise errors.Unavailable("store", "the store has gone away")
        return version
