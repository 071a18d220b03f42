"""The relay: publishes what waits in an outbox, in the order of the commits."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock
from microcosmos.base.tasks import background
from microcosmos.events.interface import Draft, Log
from microcosmos.store import Change, Delete, Record, Store, Write

from .lease import Lease
from .transaction import find

WAITING = "outbox"
"""The part of a table with the events that are to be published."""

PARKED = "outbox-parked"
"""The part with those that the log refuses."""

HOLDER = "outbox-relay"
"""The part with the lease of the relay."""

REASON = "reason"
"""The metadata of these that tells why."""

BATCH = 100
"""Events that a relay publishes at once."""

BATCH_BYTES = 1024 * 1024
"""Bytes of these after which no more are published with them."""

AHEAD = 200
"""Events that it has read before their turn."""

FIRST_PAUSE = 0.1
"""Seconds from a failure of the engine or the store to the next try; each time doubled."""

LONGEST_PAUSE = 5.0
"""The most of those seconds."""

_REFUSED = (errors.BadRequest, errors.TooLarge)

logger = logging.getLogger("microcosmos.events")

read = msgspec.msgpack.Decoder(Draft).decode
"""The event of a record."""

written = msgspec.msgpack.Encoder().encode
"""The value of a record."""


class Names:
    """Names of records in the order in which they are made here; no two of them are the same.

    They are ids of events too, so nobody can guess one and have an event taken for another.

    Args:
        clock: what they begin with, as far as it does not go back.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        """A new one."""
        self._last = max(int(self._clock.time() * 1e9), self._last + 1)
        return f"{self._last:016x}-{secrets.token_hex(8)}"


def written_at(name: str) -> float:
    """When a name was made, in seconds since the epoch."""
    return int(name[:16], 16) / 1e9


class Relay:
    """Publishes the events of an outbox while this process is the one that does.

    Versions of records are the order of the commits. What waits when it begins is read once and
    sorted; from then on the store tells of each commit in that order. A commit's events are
    removed once the log has them.

    Args:
        store: the table.
        log: where events go.
        lease: as of `Outbox`.
    """

    def __init__(self, store: Store, log: Log, lease: float) -> None:
        self._waiting = store.part(WAITING)
        self._parked = store.part(PARKED)
        self._log = log
        self._lease = Lease(store.part(HOLDER), "relay", seconds=lease)
        self._said = ""

    async def run(self) -> None:
        """Publish, or wait for one's turn, until cancelled."""
        failures = 0
        while True:
            try:
                await self._lease.hold(self._work)
                failures = 0
            except errors.Error as exc:
                failures += 1
                await self._pause(failures, exc)

    async def _work(self) -> None:
        since = await self._waiting.version()
        backlog = await self._backlog(since)
        # What the relay before this one had in hand when it ended may be in the log already.
        doubtful = True
        for at in range(0, len(backlog), BATCH):
            found = [await find(self._waiting, key) for _, key in backlog[at : at + BATCH]]
            await self._send([one for one in found if one is not None], doubtful=doubtful)
            doubtful = False
        async with self._waiting.watch(since=since) as changes, _ahead(changes) as queue:
            while True:
                await self._send(await _some(queue), doubtful=doubtful)
                doubtful = False

    async def _backlog(self, until: int) -> list[tuple[int, str]]:
        """The names of what was committed up to a version, in the order of the commits."""
        found: list[tuple[int, str]] = []
        after = ""
        while page := await self._waiting.read(after=after, limit=500, max_bytes=BATCH_BYTES):
            found += [(one.version, one.key) for one in page if one.version <= until]
            after = page[-1].key
        return sorted(found)

    async def _send(self, records: Sequence[Record], *, doubtful: bool) -> None:
        """Publish these and remove them; it goes on until that is done."""
        left, failures = list(records), 0
        while left:
            many = len(left) if not doubtful else 1
            try:
                await (self._send_all(left) if many > 1 else self._send_one(left[0]))
            except errors.Error as exc:
                # Some may be in the log now, which takes no batch with such; or one is refused.
                doubtful = True
                if not isinstance(exc, _REFUSED):
                    failures += 1
                    await self._pause(failures, exc)
                continue
            left, failures, self._said = left[many:], 0, ""

    async def _send_all(self, records: Sequence[Record]) -> None:
        await self._log.publish(*(read(one.value) for one in records))
        await self._remove(records)

    async def _send_one(self, record: Record) -> None:
        try:
            await self._log.publish(read(record.value))
        except _REFUSED as exc:
            await self._park(record, exc)
        else:
            await self._remove([record])

    async def _remove(self, records: Sequence[Record]) -> None:
        failures = 0
        while True:
            try:
                await self._waiting.batch([Delete(one.key) for one in records])
                return
            except errors.Error as exc:
                failures += 1
                await self._pause(failures, exc)

    async def _park(self, record: Record, exc: errors.Error) -> None:
        logger.error(
            "an event of the outbox is refused, and parked: %s (%s)", exc.detail, record.key
        )
        parked = Write(
            record.key, record.value, 0, {REASON: exc.detail}, None, self._parked.scope[1]
        )
        await self._waiting.batch([parked, Delete(record.key)])

    async def _pause(self, failures: int, exc: errors.Error) -> None:
        if self._said != exc.detail:
            self._said = exc.detail
            logger.warning("events of the outbox wait: %s", exc.detail)
        await asyncio.sleep(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE))


_Queue = asyncio.Queue[Record | BaseException]


@asynccontextmanager
async def _ahead(changes: AsyncIterator[Change]) -> AsyncIterator[_Queue]:
    """Read what is written, ahead of who takes it from the queue."""
    queue: _Queue = asyncio.Queue(AHEAD)

    async def pump() -> None:
        try:
            async for change in changes:
                if change.record is not None:
                    await queue.put(change.record)
            raise errors.Unavailable("store", "the store is closed")
        except errors.Error as exc:
            await queue.put(exc)

    async with background(pump(), "outbox"):
        yield queue


async def _some(queue: _Queue) -> list[Record]:
    """What there is, one at least, waited for; not more than is published at once."""
    records: list[Record] = []
    size = 0
    while not records or (not queue.empty() and len(records) < BATCH and size < BATCH_BYTES):
        one = await queue.get()
        if isinstance(one, BaseException):
            if not records:
                raise one
            queue.put_nowait(one)
            break
        records.append(one)
        size += len(one.value)
    return records
