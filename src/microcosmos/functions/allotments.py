"""Allotments: the quotas that are kept, which of them are used up, and the events that warn."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.store import Delete, Store

from . import quotas, versions
from .heads import ID, Found, Tables
from .interface import Exhausted, Spent
from .quotas import Quota, Subject
from .spent import Spending
from .tallies import Tallies, Tally

TOLD_KEPT = 86400.0
"""Seconds beyond the period for which it is known what was told of it."""

LATE = 0.05
"""Seconds after the turn of a period at which what it has opened is told: no clock is exact."""

LONGEST = 3600.0
"""Seconds between two looks at all quotas, at most."""

AGAIN = 5.0
"""Seconds until an event is published again that could not be."""

_PAGE = 500

Publish = Callable[[str, str, bytes, str], Awaitable[object]]
"""Publishes an event: the namespace, the topic, the payload as JSON, the id."""

log = logging.getLogger("microcosmos.functions")


class Warned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of an event of a quota.

    Attributes:
        namespace: of the quota.
        name: of the function whose quota it is.
        account: whose quota it is.
        measure: of it.
        used: so much, when that was seen.
        most: of it.
        period: ``hour``, ``day`` or ``month``.
        begins: when that began, RFC 3339.
        until: when it is over, RFC 3339.
        soft: the part of the quota that was reached.
    """

    namespace: str
    measure: str
    used: int | float
    most: int | float
    period: str
    begins: str
    until: str
    soft: float
    name: str = ""
    account: str = ""


class Allotments:
    """Quotas of functions, accounts and namespaces. Used as ``async with``, which watches them.

    Attributes:
        spending: which are used up.

    Args:
        tables: where functions are kept.
        ledger: counts.
        clock: tells the periods.
    """

    def __init__(self, tables: Tables, ledger: Ledger, clock: Clock = SYSTEM) -> None:
        self.spending = Spending()
        self._tables = tables
        self._clock = clock
        self._stirred = asyncio.Event()
        self._tallies = Tallies(ledger, clock, self._stirred.set)
        self._writing = asyncio.Lock()
        self._publish: Publish | None = None
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Allotments:
        for table in (self._tables.quotas, self._tables.quotas_of_many):
            await self._load(table)
        self._look()
        self._task = asyncio.create_task(self._watch(), name="quotas")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def publishing(self, publish: Publish) -> None:
        """Publish events by this from now on."""
        self._publish = publish
        self._stirred.set()

    # Looking and changing.

    async def of(self, subject: Subject, found: Found | None = None) -> list[Tally]:
        """The quotas of a subject, and what is used of them."""
        if self._task is None:
            await self._read(subject, found)
        return self._tallies.of(subject)

    async def set(self, subject: Subject, quota: Quota, found: Found | None = None) -> Tally:
        """Keep a quota, in the place of one of the same measure and period.

        Args:
            subject: whose.
            quota: which.
            found: the function, if it is one's.

        Raises:
            errors.Forbidden: an admin has allowed less.
            errors.NotFound: the function is gone.
        """
        quota = quotas.check(quota)
        async with self._writing:
            if quota.by == "owner":
                self._below(subject, quota, await self._kept(subject, found))
            table, prefix = self._place(subject, found)
            await table.set(f"{prefix}{quota.key}", quota)
            await self._read(subject, found)
        self._look()
        return next(one for one in self._tallies.of(subject) if one.quota == quota)

    @staticmethod
    def _below(subject: Subject, quota: Quota, kept: Sequence[Quota]) -> None:
        for other in kept:
            same = (other.measure, other.period) == (quota.measure, quota.period)
            if same and other.by == "admin" and quota.most > other.most:
                detail = f"quota: an admin allows {subject.shown} {other.shown}, no more"
                raise errors.Forbidden(ID, detail)

    async def delete(
        self,
        subject: Subject,
        measure: str,
        period: str,
        *,
        admin: bool,
        found: Found | None = None,
    ) -> None:
        """Forget a quota; by an admin what the owner has set, too.

        Raises:
            errors.Forbidden: an admin has set it.
            errors.NotFound: there is none.
        """
        async with self._writing:
            kept = await self._kept(subject, found)
            these = [one for one in kept if (one.measure, one.period) == (measure, period)]
            if not these:
                shown = f"{measure:.40} per {period:.40}"
                raise errors.NotFound(ID, f"{subject.shown} has no quota of {shown}")
            mine = [one for one in these if admin or one.by == "owner"]
            if not mine:
                detail = f"the quota {these[0].shown} of {subject.shown} was set by an admin"
                raise errors.Forbidden(ID, detail)
            table, prefix = self._place(subject, found)
            await table.batch([Delete(f"{prefix}{one.key}") for one in mine])
            await self._read(subject, found)
        self._look()

    def forget(self, namespace: str, name: str) -> None:
        """A function is no more; what is kept of its quotas goes with it."""
        self._tallies.drop(Subject(namespace, name))
        self._look()

    async def clear(self, namespace: str) -> None:
        """Forget those of a namespace that is no more."""
        table = self._tables.quotas_of_many
        while keys := await table.list(f"{namespace}/", limit=_PAGE):
            await table.batch([Delete(key) for key in keys])
        for subject, _ in [*self._tallies]:
            if subject.namespace == namespace:
                self._tallies.drop(subject)
        self._look()

    async def all(self, namespace: str) -> list[tuple[Subject, Tally]]:
        """Those of a namespace, and of what lives in it."""
        return [one for one in self._tallies if one[0].namespace == namespace]

    # The store.

    def _place(self, subject: Subject, found: Found | None) -> tuple[Store, str]:
        """The table of a subject's quotas, and what their keys there begin with."""
        if not subject.name:
            return self._tables.quotas_of_many, quotas.key_of(subject)
        if found is None:
            raise errors.NotFound(ID, f"there is no function {subject.name!r:.100}")
        return self._tables.quotas, found.which.prefix

    async def _kept(self, subject: Subject, found: Found | None) -> list[Quota]:
        table, prefix = self._place(subject, found)
        records = await table.read(prefix=prefix)
        return [codec.decode(record.value, Quota, id=ID) for record in records]

    async def _read(self, subject: Subject, found: Found | None) -> None:
        await self._tallies.put(subject, await self._kept(subject, found))

    async def _load(self, table: Store) -> None:
        """Take over what is kept."""
        kept: dict[Subject, list[Quota]] = {}
        after, more = "", True
        while more:
            records = await table.read(after=after, limit=_PAGE)
            more = len(records) == _PAGE
            for record in records:
                after = record.key
                if subject := await self._subject(table, record.key):
                    quota: Quota = codec.decode(record.value, Quota, id=ID)
                    kept.setdefault(subject, []).append(quota)
        for subject, these in kept.items():
            await self._tallies.put(subject, these)

    async def _subject(self, table: Store, key: str) -> Subject | None:
        """Whose quota a key is of; None of a function that is no more."""
        if table is self._tables.quotas_of_many:
            return quotas.subject_of_key(key)
        namespace, name, id, _ = key.split("/", 3)
        found = await self._tables.find(namespace, name)
        return Subject(namespace, name) if found and found.which.id == id else None

    # Watching.

    def _look(self) -> None:
        """Tell which are used up."""
        told: dict[Subject, Exhausted] = {}
        for subject, tally in self._tallies:
            known = told.get(subject)
            if tally.spent and (known is None or known.spent.until < tally.end):
                told[subject] = _exhausted(subject, tally)
        self.spending.put([*told.values()])

    async def _watch(self) -> None:
        while True:
            self._stirred.clear()
            patience = LONGEST
            try:
                self._look()
                ends = [tally.end for _, tally in self._tallies if tally.spent]
                patience = min([end - self._clock.time() + LATE for end in ends], default=LONGEST)
                await self._warn()
            except errors.Error as error:
                log.warning("a quota could not be told of, and is told of again: %s", error.detail)
                patience = AGAIN
            except Exception:
                log.exception("a look at the quotas failed")
                patience = AGAIN
            await self._rest(min(max(patience, LATE), LONGEST))

    async def _rest(self, seconds: float) -> None:
        stirred = asyncio.ensure_future(self._stirred.wait())
        slept = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((stirred, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stirred.cancel()
            slept.cancel()

    async def _warn(self) -> None:
        """Publish what has not been told yet, each once in a period."""
        if self._publish is None:
            return
        for subject, tally in self._tallies:
            for part in tally.quota.soft:
                # What is told is of the quota as it is: one that was changed begins anew.
                if tally.part >= part:
                    await self._told_of(subject, tally, part, self._publish)

    async def _told_of(self, subject: Subject, tally: Tally, part: float, publish: Publish) -> None:
        quota = tally.quota
        what = (*subject, quota.key, quota.most, part, tally.begin)
        id = hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:32]
        if id in self._told:
            return
        mark = f"{subject.namespace}/{id}"
        if not await self._tables.warned.has(mark):
            warned = Warned(
                namespace=subject.namespace,
                name=subject.name,
                account=subject.account,
                measure=quota.measure,
                used=tally.used,
                most=quota.most,
                period=quota.period,
                begins=versions.stamp(tally.begin),
                until=versions.stamp(tally.end),
                soft=part,
            )
            # By its id it is stored once, though this may be done twice.
            await publish(subject.namespace, quotas.TOPIC, msgspec.json.encode(warned), id)
            kept = tally.end - self._clock.time() + TOLD_KEPT
            await self._tables.warned.set(mark, part, expiry=max(kept, 1.0))
        if len(self._told) > _PAGE * _PAGE:
            self._told.clear()
        self._told.add(id)


def _exhausted(subject: Subject, tally: Tally) -> Exhausted:
    quota = tally.quota
    whose = f"function {subject.name}" if subject.name else "its account"
    if not subject.name and not subject.account:
        whose = "its namespace"
    until = versions.stamp(tally.end).replace(".000000", "")
    detail = (
        f"the quota of {quota.measure} per {quota.period} of {whose} is used up;"
        f" it begins anew at {until}"
    )
    return Exhausted(
        namespace=subject.namespace,
        name=subject.name,
        account=subject.account,
        spent=Spent(tally.end, detail),
    )
