"""What the functions of accounts may use, as an admin has said it: kept by account."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Check, Delete, Op, Write

from . import heads, versions
from .heads import Found, Tables
from .interface import Limits, Version
from .limits import Allowance
from .requests import PAGE
from .versions import Kept

REPEATS = 10
"""How often a change is tried again that others got in the way of."""


class Allowed(NamedTuple):
    """An allowance as it was when it was looked at.

    Attributes:
        allowance: of the account; an empty one of an account of which nothing is said.
        check: makes a batch fail if it is another one by then.
        version: of its record; 0 if there is none.
    """

    allowance: Allowance
    check: Op
    version: int

    def limits(self, version: Version) -> Limits:
        """What a version of a function of the account may use."""
        return self.allowance.limits(version.limits)


class Allowances:
    """All of them.

    Args:
        tables: where functions are kept.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._table = tables.allowances

    async def of(self, namespace: str, account: str) -> Allowed:
        """That of an account."""
        key = f"{namespace}/{account}"
        scope = self._table.scope[1]
        try:
            record = await self._table.read(key)
        except errors.NotFound:
            return Allowed(Allowance(), Check(key, 0, table=scope), 0)
        allowance: Allowance = codec.decode(record.value, Allowance)
        return Allowed(allowance, Check(key, record.version, table=scope), record.version)

    async def change(
        self, namespace: str, account: str, make: Callable[[Allowance], Allowance]
    ) -> Allowance:
        """Put another one in the place of what was there; all that runs is loaded anew with it.

        Args:
            namespace: where.
            account: whose.
            make: the new one of the old one.

        Raises:
            errors.Conflict: others change functions of the account all the time.
        """
        for _ in range(REPEATS):
            before = await self.of(namespace, account)
            after = make(before.allowance)
            if after == before.allowance:
                return after
            changes = await self._changes(namespace, account, after)
            try:
                put = self._put(namespace, account, after, before)
                await self._tables.heads.batch([put, *changes])
            except errors.Conflict:
                continue
            await self._catch_up(namespace, account)
            return after
        raise _busy(account)

    async def _catch_up(self, namespace: str, account: str) -> None:
        """Tell those functions, too, that were made while the others were looked at."""
        for _ in range(REPEATS):
            now = await self.of(namespace, account)
            changes = await self._changes(namespace, account, now.allowance)
            if not changes:
                return
            with contextlib.suppress(errors.Conflict):
                await self._tables.heads.batch([now.check, *changes])
        raise _busy(account)

    async def _changes(self, namespace: str, account: str, allowance: Allowance) -> list[Op]:
        """What tells all functions of an account what they may use."""
        changes: list[Op] = []
        async for found in self._functions(namespace, account):
            changes += await self._again(found, allowance)
        return changes

    def _put(self, namespace: str, account: str, after: Allowance, before: Allowed) -> Op:
        key, scope = f"{namespace}/{account}", self._table.scope[1]
        if after == Allowance():
            return Delete(key, version=before.version, table=scope)
        return Write(key, codec.encode(after), version=before.version, table=scope)

    async def _functions(self, namespace: str, account: str) -> AsyncIterator[Found]:
        after = ""
        while some := await self._tables.page(namespace, after, PAGE):
            for found in some:
                if found.head.owner == account:
                    yield found
            after = some[-1].name

    async def _again(self, found: Found, allowance: Allowance) -> list[Op]:
        """What tells those who run a function that it may use something else."""
        head, shares = found.head, []
        for share in head.shares:
            try:
                record = await self._tables.versions.read(found.which.version(share.number))
            except errors.NotFound:
                # The function has been deleted meanwhile.
                return []
            kept: Kept = codec.decode(record.value, Kept)
            limits = allowance.limits(kept.version.limits)
            key = versions.key_of(kept.version, head.secrets, limits)
            shares.append(msgspec.structs.replace(share, key=key, wall=limits.wall))
        if shares == head.shares:
            return []
        return [heads.write(found.which, msgspec.structs.replace(head, shares=shares), found)]

    async def clear(self, namespace: str) -> None:
        """Forget those of a namespace that is no more."""
        while keys := await self._table.list(f"{namespace}/", limit=PAGE):
            await self._table.batch([Delete(key) for key in keys])


def _busy(account: str) -> errors.Conflict:
    detail = f"functions of {account} are changed all the time; try again"
    return errors.Conflict(heads.ID, detail)
