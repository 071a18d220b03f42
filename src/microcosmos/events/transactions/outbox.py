"""The outbox: an event leaves if, and only if, the transaction that it belongs to is committed."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, TypeVar

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.events.checks import check_draft
from microcosmos.events.drafting import drafted
from microcosmos.events.interface import Draft, Log
from microcosmos.events.moments import Moment
from microcosmos.store import Delete, Store, Write
from microcosmos.store.backend import stopped

from .lease import LEASE
from .relay import PARKED, REASON, WAITING, Names, Relay, read, written, written_at
from .transaction import Mark, Transaction, committed, find, token, transact

T = TypeVar("T")

MAX_PAYLOAD = 4 * 1024 * 1024
"""The largest payload of an event that goes through an outbox, in bytes; see `blobs`."""

MARK_KEPT = 600.0
"""Seconds that it is remembered that a transaction was committed that no event has caused."""


class Maker(Protocol):
    """Makes the event of what an author publishes: `Events.draft`."""

    async def __call__(
        self,
        topic: str,
        message: Any,
        *,
        key: str = "",
        metadata: Mapping[str, str] | None = None,
        timestamp: Moment = 0,
        ttl: float = 0,
        id: str = "",
    ) -> Draft: ...


class Backlog(msgspec.Struct, frozen=True):
    """What waits in an outbox.

    Attributes:
        waiting: events that are committed and not published yet.
        oldest: seconds for which the first of them has waited.
        parked: events that the log refuses; see `Outbox.parked`.
    """

    waiting: int
    oldest: float
    parked: int


class Parked(msgspec.Struct, frozen=True):
    """An event that the log refuses.

    Attributes:
        name: what `Outbox.retry` takes.
        draft: the event.
        reason: the log's.
    """

    name: str
    draft: Draft
    reason: str


class Outbox:
    """Events that are committed with the records of a table, and published after that.

        async with outbox.transaction() as tx:
            tx.set(order.id, order)
            await tx.publish("orders.placed", order, key=order.customer)

    While it is entered, this process takes part in publishing: one replica at a time does, in the
    order of the commits, by the ids that were given at the commit. An event that was published and
    not yet removed when that replica died is published once more; the log knows it by its id
    within `interface.DUPLICATE_WINDOW`, and after that the inboxes of its consumers do.

    Args:
        store: the table.
        log: where events go.
        make: makes events of what authors publish; give `Events.draft` of those with contracts.
        lease: seconds after which another replica goes on for one that is gone without a word.
        clock: what timestamps go by.
    """

    def __init__(
        self,
        store: Store,
        log: Log,
        *,
        make: Maker | None = None,
        lease: float = LEASE,
        clock: Clock = SYSTEM,
    ) -> None:
        self._store = store
        self._waiting = store.part(WAITING)
        self._parked = store.part(PARKED)
        self._make: Maker = make or partial(drafted, None)
        self._clock = clock
        self._names = Names(clock)
        self._relay = Relay(store, log, lease)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<outbox of {'/'.join(self._store.scope)}>"

    async def __aenter__(self) -> Outbox:
        # A context of its own: what it does is no part of the call that it may be opened in.
        own = contextvars.Context()
        self._task = asyncio.create_task(self._relay.run(), name="outbox", context=own)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            await stopped(self._task)

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
    ) -> Write:
        """The write by which an event leaves with a batch; the arguments are `Events.publish`'s.

        Put it into a `batch` of any table of the same database. A `transaction` does that itself.

        Raises:
            errors.BadRequest: it cannot be an event.
            errors.TooLarge: the payload is over `MAX_PAYLOAD`.
        """
        name = self._names.next()
        draft = await self._make(
            topic,
            message,
            key=key,
            metadata=metadata,
            timestamp=timestamp or self._clock.time(),
            ttl=ttl,
            id=id or name,
        )
        draft = check_draft(draft)
        if len(draft.payload) > MAX_PAYLOAD:
            raise errors.TooLarge(
                "events",
                f"a payload of {len(draft.payload)} bytes is over the outbox's limit of "
                f"{MAX_PAYLOAD}: store it as a blob and publish its name",
            )
        return Write(name, written(draft), table=self._waiting.scope[1])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction of the store's tables that events may be published in.

        Raises:
            Overtaken: at its end: a record that it read was changed by somebody else; nothing was
                done. `transact` does it anew then.
        """
        transaction = Transaction(self._store, self)
        mark = Mark(f"commit\n{uuid.uuid4().hex}", token(), 0, MARK_KEPT)
        async with committed(transaction, mark):
            yield transaction

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do a piece of work in a transaction, and anew as long as others are faster.

        Args:
            work: reads and writes by it, and does nothing else that is seen outside.

        Raises:
            Overtaken: `transaction.OVERTAKEN_LIMIT` times.
        """
        return await transact(self.transaction, work)

    async def backlog(self) -> Backlog:
        """What waits here; a table whose relay works has next to nothing."""
        waiting = await self._waiting.count()
        first = await self._waiting.list(limit=1)
        oldest = max(self._clock.time() - written_at(first[0]), 0) if first else 0
        return Backlog(waiting, oldest, await self._parked.count())

    async def parked(self, *, limit: int = 100) -> list[Parked]:
        """Events that the log refuses, the oldest first; others are published meanwhile."""
        records = await self._parked.read(limit=limit)
        return [Parked(one.key, read(one.value), one.metadata[REASON]) for one in records]

    async def retry(self, name: str) -> None:
        """Publish an event that was parked, after all that wait now.

        Raises:
            errors.NotFound: there is none of that name.
        """
        record = await find(self._parked, name)
        if record is None:
            raise errors.NotFound("events", f"no event {name} is parked in the outbox")
        again = Write(name, record.value, table=self._waiting.scope[1])
        await self._waiting.batch([again, Delete(name, record.version, self._parked.scope[1])])
