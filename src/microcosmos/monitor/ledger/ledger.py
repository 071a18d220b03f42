"""The ledger: what was used, added up durably, each count once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store import Check, Delete, Op, Store, Write

from . import keys
from .book import MAX_KNOWN, Book, Page, Tables
from .interface import Counts, Kind, Line, Listener, Subject
from .pace import Pace
from .reading import Reading

REMEMBERED = 86400.0
"""Seconds for which it is known which counts a worker has sent last."""

TOGETHER = 1000
"""Subjects whose counts are written together, at least one worker's."""

MAX_VERSIONS = 200
"""Versions of a service or app that are told apart; what further ones use is counted together."""

FORGOTTEN = 500
"""Records that are removed at once."""


class Owned(msgspec.Struct, frozen=True):
    """Whose something is, and what must still be so when that is written.

    Attributes:
        account: the id of the account.
        checks: conditions of the write.
    """

    account: str
    checks: tuple[Check, ...] = ()


Whose = Callable[[str, str], Awaitable[Owned | None]]
"""Says whose something is, by its namespace and name; None if it is not there (any more)."""


class _Told(msgspec.Struct):
    """Counts that wait to be written."""

    worker: str
    sequence: int
    counts: Mapping[Subject, Counts]
    done: asyncio.Future[None]


class Ledger:
    """What was used, in totals, hours and days; those who count at once wait for one write.

    Attributes:
        tables: where it is kept.
        reading: what it says.
        clock: tells the hour.

    Args:
        store: any table of the database `PLATFORM`.
        clock: tells the hour.
        pace: how often is written.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock = SYSTEM,
        pace: Pace | None = None,
    ) -> None:
        self.tables = Tables(store)
        self._whose: dict[Kind, Whose] = {}
        self.reading = Reading(self.tables, clock)
        self.clock = clock
        self._pace = pace or Pace()
        self._book = Book(self.tables)
        self._owners: dict[tuple[Kind, str, str], Owned] = {}
        self._listeners: list[Listener] = []
        self._waiting: list[_Told] = []
        self._writing = asyncio.Lock()

    def belongs(self, kind: Kind, whose: Whose) -> None:
        """From now on somebody says whose the subjects of a kind are; until then they do.

        Those that are not there any more are passed over.
        """
        self._whose[kind] = whose

    def listen(self, listener: Listener) -> None:
        """Tell somebody what is added, from now on."""
        self._listeners.append(listener)

    async def used(self, line: Line, since: float = 0.0) -> Counts:
        """What was added to a line since a time; see `Reading.used`.

        Args:
            line: which; with a name and without a version, all versions together.
            since: in seconds since the epoch, 0 for ever.
        """
        return await self.reading.used(await self.reading.find(line), since)

    async def add(self, worker: str, sequence: int, counts: Mapping[Subject, Counts]) -> None:
        """Add what was used, unless that has been done; durable on return.

        Args:
            worker: who counted, unique for ever; each sends its counts one after the other.
            sequence: grows with each of the worker's; what is sent again has the same.
            counts: by subjects.
        """
        told = _Told(worker, sequence, counts, asyncio.get_running_loop().create_future())
        self._waiting.append(told)
        async with self._writing:
            while not told.done.done():
                await self._pace.rest()
                with self._pace:
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
                # Another core was faster, or something was changed that is counted here.
                self._book.clear()
                self._owners.clear()
        except errors.Error as error:
            self._book.clear()
            for told in some:
                told.done.set_exception(error)
        except BaseException:
            # Who wrote for all was given up: the others go on.
            self._waiting[:0] = some
            self._book.clear()
            raise
        else:
            for told in some:
                told.done.set_result(None)

    async def _tried(self, some: Sequence[_Told]) -> bool:
        """Write once; False if another core was faster."""
        last: dict[str, tuple[int, int]] = {}
        sums: dict[Subject, Counts] = {}
        for told in some:
            seen, version = last.get(told.worker) or await self._last(told.worker)
            if told.sequence > seen:
                last[told.worker] = told.sequence, version
                for subject, counts in told.counts.items():
                    sums.setdefault(subject, Counts()).add(counts)
        table = self.tables.told.scope[1]
        ops: list[Op] = [
            Write(worker, codec.encode(sequence), expiry=REMEMBERED, version=version, table=table)
            for worker, (sequence, version) in last.items()
        ]
        page = Page(self._book, self.tables, self.clock.time())
        checks: dict[str, Check] = {}
        lines: dict[Line, tuple[str, Counts]] = {}
        for subject, counts in sums.items():
            if (owned := await self._owned(subject)) is None:
                continue
            checks.update({f"{check.table}/{check.key}": check for check in owned.checks})
            for line in keys.lines_of(await self._named(subject, owned.account)):
                lines.setdefault(line, (owned.account, Counts()))[1].add(counts)
        for line, (account, counts) in lines.items():
            await page.add(line, "" if is_namespace(line) else account, counts)
        try:
            version = await self.tables.lines.batch([*ops, *checks.values(), *page.ops])
        except errors.Conflict:
            return False
        self._book.wrote(page.lines, version)
        for listener in self._listeners if page.added else ():
            listener(page.added)
        return True

    async def _last(self, worker: str) -> tuple[int, int]:
        """The sequence that a worker has sent last, and the version of that record."""
        try:
            record = await self.tables.told.read(worker)
        except errors.NotFound:
            return 0, 0
        return codec.decode(record.value, int), record.version

    async def _owned(self, subject: Subject) -> Owned | None:
        """Whose a subject is; None if it is not there any more."""
        whose = self._whose.get(subject.kind)
        if whose is None:
            return Owned(subject.account)
        which = subject.kind, subject.namespace, subject.name
        if (known := self._owners.get(which)) is not None:
            return known
        # What is gone may come again, and no condition of the write would tell.
        found = await whose(subject.namespace, subject.name)
        if found is not None:
            if len(self._owners) >= MAX_KNOWN:
                self._owners.clear()
            self._owners[which] = found
        return found

    async def _named(self, subject: Subject, account: str) -> Subject:
        """A subject as it is counted: with its account, and without one version too many."""
        subject = msgspec.structs.replace(subject, account=account)
        if subject.kind in self._whose or not subject.version:
            return subject
        line = keys.lines_of(subject)[0]
        if (await self._book.find(keys.of(line)))[1]:
            return subject
        prefix = keys.of_name(subject.namespace, subject.kind, subject.name)
        if await self.tables.lines.count(prefix=prefix) < MAX_VERSIONS:
            return subject
        return msgspec.structs.replace(subject, version="")

    # Forgetting.

    async def leave(self, namespace: str, kind: Kind, name: str) -> list[Op]:
        """What removes the lines of a name; do it together with what removes the name itself.

        Hours and days are left for `sweep`.
        """
        prefix = keys.of_name(namespace, kind, name)
        table = self.tables.lines.scope[1]
        return [Delete(key, table=table) for key in await self.tables.lines.list(prefix)]

    async def sweep(self, namespace: str, kind: Kind, name: str, before: int) -> None:
        """Remove what is left of a name whose lines were removed.

        Args:
            namespace: where it lived.
            kind: what it was.
            name: of it.
            before: the version of the batch that removed the lines: what was written later is of
                another that has the name now.
        """
        await self._remove(keys.of_name(namespace, kind, name), before)

    async def clear(self, namespace: str) -> None:
        """Remove all that was counted in a namespace that is no more."""
        before = await self.tables.lines.version()
        for prefix in keys.all_of(namespace):
            await self._remove(prefix, before)

    async def _remove(self, prefix: str, before: int) -> None:
        """Remove lines, hours and days whose keys begin like that, up to a version."""
        for table in (self.tables.lines, self.tables.hours, self.tables.days):
            after = ""
            while records := await table.read(prefix=prefix, after=after, limit=FORGOTTEN):
                after = records[-1].key
                old = [Delete(one.key) for one in records if one.version <= before]
                await table.batch(old)


def is_namespace(line: Line) -> bool:
    """Whether a line is that of a namespace."""
    return line.name is None and line.account is None
