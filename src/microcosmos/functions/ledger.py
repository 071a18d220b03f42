"""The ledger: what functions have used, added up durably, each count once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Op, Store, Write

from .interface import Counts

REMEMBERED = 86400.0
"""Seconds for which it is known which counts a worker has sent last."""

TOGETHER = 1000
"""Functions whose counts are written together, at least one worker's."""

MOST = 2**63 - 1
"""What a count stops at."""


class _Told(msgspec.Struct):
    """Counts that wait to be written."""

    worker: str
    sequence: int
    counts: Mapping[str, Counts]
    done: asyncio.Future[None]


class Ledger:
    """What functions have used; those who count at the same time wait for one write.

    Args:
        functions: the table that a function has a record in for as long as it is there.
        counts: a table.
        told: a table.
    """

    def __init__(self, functions: Store, counts: Store, told: Store) -> None:
        self._functions = functions
        self._counts = counts
        self._workers = told
        self._waiting: list[_Told] = []
        self._writing = asyncio.Lock()

    async def of(self, key: str) -> Counts:
        """What a function has used."""
        return await self._counts.get(key, Counts) or Counts()

    async def add(self, worker: str, sequence: int, counts: Mapping[str, Counts]) -> None:
        """Add what was used in a worker, unless that has been done; durable on return.

        Args:
            worker: where; each sends its counts one after the other.
            sequence: grows with each of the worker's.
            counts: by the keys of functions; those that are gone are passed over.
        """
        told = _Told(worker, sequence, counts, asyncio.get_running_loop().create_future())
        self._waiting.append(told)
        async with self._writing:
            while not told.done.done():
                await self._write(self._some())
        told.done.result()

    def _some(self) -> list[_Told]:
        """Who is written next."""
        size = count = 0
        while count < len(self._waiting) and (not count or size < TOGETHER):
            size += len(self._waiting[count].counts)
            count += 1
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        return some

    async def _write(self, some: Sequence[_Told]) -> None:
        try:
            while not await self._tried(some):
                pass
        except errors.Error as error:
            for told in some:
                told.done.set_exception(error)
        except BaseException:
            # Who wrote for all was given up: the others go on.
            self._waiting[:0] = some
            raise
        else:
            for told in some:
                told.done.set_result(None)

    async def _tried(self, some: Sequence[_Told]) -> bool:
        """Write once; False if another core was faster."""
        last: dict[str, tuple[int, int]] = {}
        sums: dict[str, Counts] = {}
        for told in some:
            seen, version = last.get(told.worker) or await self._last(told.worker)
            if told.sequence > seen:
                last[told.worker] = told.sequence, version
                for key, counts in told.counts.items():
                    sums[key] = added(sums.get(key, Counts()), counts)
        ops: list[Op] = [
            Write(
                worker,
                codec.encode(sequence),
                expiry=REMEMBERED,
                version=version,
                table=self._workers.scope[1],
            )
            for worker, (sequence, version) in last.items()
        ]
        for key, counts in sums.items():
            if await self._functions.has(key):
                ops.append(await self._sum(key, counts))
        try:
            await self._counts.batch(ops)
        except errors.Conflict:
            return False
        return True

    async def _last(self, worker: str) -> tuple[int, int]:
        """The sequence that a worker has sent last, and the version of that record."""
        try:
            record = await self._workers.read(worker)
        except errors.NotFound:
            return 0, 0
        return codec.decode(record.value, int), record.version

    async def _sum(self, key: str, counts: Counts) -> Op:
        """What adds to the counts of a function."""
        try:
            record = await self._counts.read(key)
        except errors.NotFound:
            return Write(key, codec.encode(counts), version=0)
        total = added(codec.decode(record.value, Counts), counts)
        return Write(key, codec.encode(total), version=record.version)


def added(one: Counts, other: Counts) -> Counts:
    """The sum of two."""
    fields = Counts.__struct_fields__
    sums = {name: min(getattr(one, name) + getattr(other, name), MOST) for name in fields}
    return Counts(**sums)


def check(counts: Mapping[str, Counts]) -> None:
    """Refuse counts that cannot be.

    Raises:
        errors.BadRequest: one is negative.
    """
    for key, one in counts.items():
        if any(getattr(one, name) < 0 for name in Counts.__struct_fields__):
            raise errors.BadRequest("functions", f"counts: one of {key!r:.120} is negative")
