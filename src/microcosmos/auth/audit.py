"""Audit: who changed what, and when. Entries are added and listed, and never altered."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import msgspec

from microcosmos.base import codec, context, errors
from microcosmos.base.clock import Clock
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store import Delete, Store, Write

from .interface import Account

TABLE = "auth/audit"
"""Where it stands in the store's database of the platform."""

KEPT = 100_000
"""Entries of the audit log that are kept; beyond them the oldest go."""

KEPT_FOR = 400 * 86400.0
"""Seconds after which an entry of the audit log goes."""

LONGEST_DETAIL = 1000
"""Characters of an entry's detail; what is longer is cut."""

MAX_PAGE = 1000
"""Entries, or accounts, that one call lists at most."""

PAGE = 100
"""Entries, or accounts, that one call lists unless it says otherwise."""

SYSTEM = "system"
"""Who acts when nobody's call does."""

_TRIM_EVERY = 1000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change.

    Attributes:
        id: grows with time; what a cursor names.
        time: seconds since the epoch.
        who: the account that did it.
        issuer: the namespace of that account.
        action: what was done, such as ``rule created``.
        subject: to what.
        namespace: where.
        detail: the rest, without secrets.
    """

    id: str
    time: float
    who: str
    issuer: str
    action: str
    subject: str
    namespace: str
    detail: str = ""


class Audit:
    """The log.

    Args:
        store: the table `TABLE` of the platform's database.
        clock: the times of entries.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last = 0
        self._since_trim = 0

    def op(self, action: str, subject: str, detail: str = "", *, namespace: str = "") -> Write:
        """An entry to go into the batch of the change that it tells of.

        Args:
            action: what is done, such as ``rule created``.
            subject: to what.
            detail: the rest; no secrets.
            namespace: where; that of the call being handled, unless said.
        """
        here = context.current()
        name, issuer = (SYSTEM if here.outside else ""), DEFAULT_NAMESPACE
        if isinstance(here.account, Account):
            name, issuer = here.account.id, here.account.namespace
        now = self._clock.time()
        # Two of one microsecond stay in their order.
        self._last = max(int(now * 1e6), self._last + 1)
        entry = Entry(
            id=f"{self._last:017d}-{secrets.token_hex(4)}",
            time=now,
            who=name,
            issuer=issuer,
            action=action,
            subject=subject,
            namespace=namespace or here.namespace,
            detail=detail[:LONGEST_DETAIL],
        )
        return Write(entry.id, codec.encode(entry), expiry=KEPT_FOR, table=TABLE)

    async def add(
        self, action: str, subject: str, detail: str = "", *, namespace: str = ""
    ) -> None:
        """Note something that is no change of records; see `op`."""
        await self._store.batch([self.op(action, subject, detail, namespace=namespace)])
        await self.trim()

    async def list(
        self,
        *,
        limit: int = 0,
        before: str = "",
        after: str = "",
        account: str = "",
        namespace: str = "",
    ) -> list[Entry]:
        """The newest entries that match, the last one last.

        Args:
            limit: at most so many; 0 is `PAGE`.
            before: only those older than the entry of this id.
            after: only those newer than the entry of this id.
            account: only those of what this one did.
            namespace: only those of changes there.
        """
        found = []
        async for entry in self._newest(before, after):
            if account in ("", entry.who) and namespace in ("", entry.namespace):
                found.append(entry)
                if len(found) == page(limit):
                    break
        return found[::-1]

    async def _newest(self, before: str, after: str) -> AsyncIterator[Entry]:
        cursor, size = before, PAGE
        while True:
            records = await self._store.read(limit=size, order="desc", after=cursor)
            for record in records:
                if after and record.key <= after:
                    return
                yield msgspec.json.decode(record.value, type=Entry)
            if len(records) < size:
                return
            cursor, size = records[-1].key, MAX_PAGE

    async def trim(self, *, now: bool = False) -> None:
        """Remove the oldest entries, now and then, beyond those that are kept."""
        self._since_trim += 1
        if not now and self._since_trim < _TRIM_EVERY:
            return
        self._since_trim = 0
        while (count := await self._store.count()) > KEPT:
            keys = await self._store.list(limit=min(count - KEPT, MAX_PAGE))
            await self._store.batch([Delete(key) for key in keys])


def page(limit: int) -> int:
    """How many a list gives.

    Raises:
        errors.BadRequest: a limit below 0 or above `MAX_PAGE`.
    """
    if not 0 <= limit <= MAX_PAGE:
        raise errors.BadRequest("auth", f"limit: from 0 to {MAX_PAGE}, not {limit}")
    return limit or PAGE
