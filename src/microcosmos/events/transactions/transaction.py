"""Transactions: records that are read, writes and events that are committed together."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from microcosmos.base import codec, errors
from microcosmos.events.moments import Moment
from microcosmos.store import Check, Delete, Op, Record, Store, Write

T = TypeVar("T")

MARKS = "inbox"
"""The part of a table where it is noted what was committed."""

OVERTAKEN_LIMIT = 50
"""Times that a piece of work is done anew because others were faster."""

PAUSE = 0.02
"""The longest pause before it is, in seconds; it grows with the times, up to 10 of these."""


class Overtaken(errors.Conflict):
    """Somebody changed a record that a transaction had read; nothing was done, so try again."""


class Box(Protocol):
    """Makes the write by which an event leaves with a transaction; an `Outbox`."""

    async def op(
        self,
        topic: str,
        message: Any,
        *,
        key: str = "",
        metadata: Mapping[str, str] | None = None,
        timestamp: Moment = 0,
        ttl: float = 0,
        id: str = "",
    ) -> Write: ...


class Mark(NamedTuple):
    """What a commit writes beside the rest, so that it is known to have happened.

    Attributes:
        key: in the part `MARKS`.
        value: nobody else's.
        version: that stands there before.
        expiry: seconds that it is kept, 0 for ever.
    """

    key: str
    value: bytes
    version: int
    expiry: float


class Transaction:
    """Reads and writes of the tables of one database, committed in one batch or not at all.

    What `get` and `read` gave must still stand there at the commit: else it is `Overtaken`, and
    nothing is done. Nothing is written before the end of its block, and nothing if that raises.
    ``table`` is a further table of the store, or a store of the same database.

    Attributes:
        done: it was committed before, by somebody else or an earlier try: nothing will be written.
        version: of the records that were written, once it is committed.
    """

    def __init__(self, store: Store, outbox: Box | None = None, *, done: bool = False) -> None:
        self.done = done
        self.version = 0
        self._store = store
        self._outbox = outbox
        self._seen: dict[tuple[str, str], Record | None] = {}
        self._ops: dict[tuple[str, str], Op] = {}
        self._ended = False

    @overload
    async def get(self, key: str, *, table: str | Store = "") -> Any: ...
    @overload
    async def get(self, key: str, type: type[T], *, table: str | Store = "") -> T | None: ...
    async def get(self, key: str, type: Any = Any, *, table: str | Store = "") -> Any:
        """The JSON value of a key as ``type``, or None when there is none; see `Store.get`."""
        record = await self.read(key, table=table)
        if record is None:
            return None
        return codec.decode(record.value, type, id="store")

    async def read(self, key: str, *, table: str | Store = "") -> Record | None:
        """The record of a key, or None when there is none; what this transaction wrote, if it did.

        Of something else than keys, such as a prefix, it is not known whether it still holds.
        """
        self._check_open()
        place = self._name(table), key
        if isinstance(op := self._ops.get(place), Write):
            return Record(key, op.value, dict(op.metadata), op.expiry)
        if isinstance(op, Delete):
            return None
        if place not in self._seen:
            self._seen[place] = await find(self._opened(table), key)
        return self._seen[place]

    def set(self, key: str, value: Any, *, expiry: float = 0, table: str | Store = "") -> None:
        """Store a value as JSON; None deletes."""
        if value is None:
            self.delete(key, table=table)
        else:
            self.write(key, codec.encode(value), expiry=expiry, table=table)

    def write(
        self,
        key: str,
        value: bytes,
        *,
        expiry: float = 0,
        metadata: Mapping[str, str] | None = None,
        table: str | Store = "",
    ) -> None:
        """Put a record in place of what stood there."""
        self._put(Write(key, value, expiry, metadata or {}, table=self._name(table)))

    def delete(self, key: str, *, table: str | Store = "") -> None:
        """Remove a record."""
        self._put(Delete(key, table=self._name(table)))

    def add(self, *ops: Op) -> None:
        """Do these too; their tables are full names, as of `Store.batch`."""
        for op in ops:
            self._put(op)

    async def publish(
        self,
        topic: str,
        message: Any,
        *,
        key: str = "",
        metadata: Mapping[str, str] | None = None,
        timestamp: Moment = 0,
        ttl: float = 0,
        id: str = "",
    ) -> str:
        """Publish an event if, and only if, this is committed; see `Events.publish`.

        Returns:
            The event's id.

        Raises:
            RuntimeError: the transaction was opened without an outbox.
        """
        if self._outbox is None:
            raise RuntimeError("this transaction has no outbox to publish by")
        about: dict[str, Any] = {"key": key, "metadata": metadata, "timestamp": timestamp}
        op = await self._outbox.op(topic, message, **about, ttl=ttl, id=id)
        self._put(op)
        return id or op.key

    def _put(self, op: Op) -> None:
        self._check_open()
        self._ops[op.table or self._store.scope[1], op.key] = op

    def _name(self, table: str | Store) -> str:
        return self._opened(table).scope[1]

    def _opened(self, table: str | Store) -> Store:
        if isinstance(table, str):
            return self._store.table(table) if table else self._store
        if table.scope[0] != self._store.scope[0]:
            detail = f"the table {table.scope[1]} is in another database, {table.scope[0]}"
            raise errors.BadRequest("store", f"{detail}: a transaction is in one")
        return table

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError("the transaction has ended: what comes after it would be lost")

    def _batch(self) -> list[Op]:
        ops = []
        for place, op in self._ops.items():
            if place in self._seen and op.version is None:
                op = _at(op, self._seen[place])
            ops.append(op)
        for (table, key), record in self._seen.items():
            if (table, key) not in self._ops:
                ops.append(Check(key, record.version if record else 0, table))
        return ops

    async def _commit(self, mark: Mark) -> None:
        marks = self._store.part(MARKS)
        written = Write(mark.key, mark.value, mark.expiry, {}, mark.version, marks.scope[1])
        try:
            self.version = await self._store.batch([*self._batch(), written])
        except errors.Conflict as exc:
            there = await find(marks, mark.key)
            if there is not None and there.value == mark.value:
                # Our own, when what carried it lost the answer and did it again.
                self.version = there.version
            elif there is not None and there.version != mark.version:
                self.done = True
            else:
                raise Overtaken(exc.id, exc.detail) from None


def _at(op: Op, seen: Record | None) -> Op:
    version = seen.version if seen else 0
    if isinstance(op, Write):
        return Write(op.key, op.value, op.expiry, op.metadata, version, op.table)
    return Delete(op.key, version, op.table)


@asynccontextmanager
async def committed(transaction: Transaction, mark: Mark) -> AsyncIterator[Transaction]:
    """Commit a transaction at the end of the block, unless it is done."""
    try:
        yield transaction
    finally:
        transaction._ended = True
    if not transaction.done:
        await transaction._commit(mark)


async def find(store: Store, key: str) -> Record | None:
    """The record of a key, or None."""
    try:
        return await store.read(key)
    except errors.NotFound as exc:
        if exc.id != "store":  # the service itself
            raise
        return None


def token() -> bytes:
    """A value that nobody else writes."""
    return uuid.uuid4().hex.encode()


async def transact(
    open: Callable[[], AbstractAsyncContextManager[Transaction]],
    work: Callable[[Transaction], Awaitable[T]],
) -> T:
    """Do a piece of work in a transaction, and anew as long as others are faster.

    Args:
        open: opens a transaction.
        work: reads and writes by it, and does nothing else that is seen outside.

    Raises:
        Overtaken: `OVERTAKEN_LIMIT` times.
    """
    for times in range(1, OVERTAKEN_LIMIT):
        try:
            async with open() as transaction:
                return await work(transaction)
        except Overtaken:
            await pause(times)
    async with open() as transaction:
        return await work(transaction)


async def pause(times: int) -> None:
    """Wait a little, before what was overtaken so many times is done anew."""
    await asyncio.sleep(random.random() * PAUSE * min(times, 10))
