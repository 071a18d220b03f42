"""The inbox: what an event does to the store is done once, however often the event comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from microcosmos.base import errors
from microcosmos.store import Op, Record, Store, Write

from .transaction import MARKS, Box, Mark, Transaction, committed, find, token

KEEP = 7 * 86400.0
"""Seconds that it is remembered that something was done, longer than any event is given out again.

An event that is retried for longer than this, or re-driven later, has its effect anew.
"""

_UNDONE = b"undone "


class Inbox:
    """Remembers what was done, in a part of a table, in the batch that does it.

        async with inbox.once("billing", event.id) as tx:
            if tx.done:
                return
            bill = await tx.get(order.customer, Bill) or Bill()
            tx.set(order.customer, bill.with_(order))

    Args:
        store: the table whose batches it goes with; transactions reach its database.
        outbox: what events leave by that are published in a transaction.
    """

    def __init__(self, store: Store, outbox: Box | None = None) -> None:
        self._store = store
        self._outbox = outbox
        self._marks = store.part(MARKS)

    @asynccontextmanager
    async def once(
        self, group: str, event_id: str, *, keep: float = KEEP
    ) -> AsyncIterator[Transaction]:
        """A transaction that is committed once for this event and group, whoever tries it.

        When it was done before, ``tx.done`` is true and nothing that the block writes is kept.

        Args:
            group: who does something because of the event.
            event_id: the event's, or any other idempotency key.
            keep: seconds that it is remembered, 0 for ever.

        Raises:
            Overtaken: a record that the block has read was changed by somebody else; nothing was
                done, so let the event come again.
        """
        key = _key(group, event_id)
        record = await find(self._marks, key)
        transaction = Transaction(self._store, self._outbox, done=record is not None)
        async with committed(transaction, Mark(key, token(), 0, keep)):
            yield transaction

    @asynccontextmanager
    async def undo(
        self, group: str, event_id: str, *, keep: float = KEEP
    ) -> AsyncIterator[Transaction]:
        """A transaction that takes back what `once` did, once; the arguments are those of `once`.

        ``tx.done`` is true when there is nothing to take back: it was, or it was never done. What
        was never done cannot be done any more from then on: a late `once` finds itself done.

        Raises:
            Overtaken: as of `once`.
        """
        key = _key(group, event_id)
        record = await self._to_undo(key, keep)
        transaction = Transaction(self._store, self._outbox, done=record is None)
        version = record.version if record else 0
        async with committed(transaction, Mark(key, _UNDONE + token(), version, keep)):
            yield transaction

    async def has(self, group: str, event_id: str) -> bool:
        """Whether it was done and not undone."""
        record = await find(self._marks, _key(group, event_id))
        return record is not None and not _is_undone(record)

    async def fading(self, group: str, event_id: str, *, after: float = KEEP) -> list[Op]:
        """What makes a batch have this remembered for so many seconds more only.

        It is empty when nothing is remembered, and the batch a `Conflict` when that has changed.
        """
        record = await find(self._marks, _key(group, event_id))
        if record is None:
            return []
        name = self._marks.scope[1]
        return [Write(record.key, record.value, after, record.metadata, record.version, name)]

    async def _to_undo(self, key: str, keep: float) -> Record | None:
        """What is to be undone; if nothing, it is seen to that nothing will be."""
        while True:
            record = await find(self._marks, key)
            if record is not None:
                return None if _is_undone(record) else record
            try:
                await self._marks.write(key, _UNDONE + token(), expiry=keep, version=0)
            except errors.Conflict:
                continue
            return None


def _is_undone(record: Record) -> bool:
    return record.value.startswith(_UNDONE)


def _key(group: str, event_id: str) -> str:
    if not group or not event_id or "\n" in group:
        raise errors.BadRequest("events", "what is done once has a group and an id, on one line")
    return f"{group}\n{event_id}"
