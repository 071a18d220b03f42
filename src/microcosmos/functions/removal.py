"""Removal: functions that are deleted, whole, though the process may end in between."""

from __future__ import annotations

from microcosmos.base import errors
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.store import Delete, Write

from .conflicts import Claims
from .drafts import family
from .heads import Found, Tables, busy
from .versions import Which

TOGETHER = 500
"""Records that are removed at once."""

REPEATS = 10
"""How often a deletion is tried again that others got in the way of."""


class Removal:
    """Deletes functions.

    Args:
        tables: where functions are kept.
        claims: whose families are.
        ledger: what they have used.
    """

    def __init__(self, tables: Tables, claims: Claims, ledger: Ledger) -> None:
        self._tables = tables
        self._claims = claims
        self._ledger = ledger

    async def delete(self, which: Which) -> int:
        """Delete a function with its history, secrets and counts.

        Returns:
            The version of that; 0 if it was another's turn.

        Raises:
            errors.NotFound: it is gone already.
            errors.Conflict: others change it all the time.
        """
        for _ in range(REPEATS):
            found = await self._tables.get(which.namespace, which.name)
            if found.which != which:
                return 0
            if version := await self._tried(found):
                await self._sweep(which.prefix, version)
                return version
        raise busy(which.name)

    async def _tried(self, found: Found) -> int:
        """Delete a function once; the version of that, or 0 if somebody was quicker."""
        which, tables = found.which, self._tables
        seen = await self._claims.family(which.namespace, which.name)
        last = not await self._in_family(which)
        ops = [
            Delete(which.key, version=found.version),
            Delete(which.key, table=tables.counts.scope[1]),
            *await self._ledger.leave(which.namespace, "function", which.name),
            *self._claims.leave(which, seen, last=last),
            # What is left is removed by `tidy` if this process ends now.
            Write(which.prefix, b"", table=tables.gone.scope[1]),
        ]
        try:
            return await tables.heads.batch(ops)
        except errors.Conflict:
            return 0

    async def _in_family(self, which: Which) -> bool:
        """Whether there are other functions in a function's family."""
        first = f"{which.namespace}/{family(which.name)}"
        keys = await self._tables.heads.list(f"{first}.", limit=2)
        if await self._tables.heads.has(first):
            keys.append(first)
        return any(key != which.key for key in keys)

    async def clear(self, namespace: str) -> list[str]:
        """Delete all functions of a namespace that is no more; their names."""
        names = []
        while some := await self._tables.page(namespace, "", TOGETHER):
            for one in some:
                await self.delete(one.which)
                names.append(one.name)
        return names

    async def tidy(self) -> None:
        """Remove what a process that was killed has left of functions."""
        for record in await self._tables.gone.read():
            await self._sweep(record.key, record.version)

    async def _sweep(self, prefix: str, version: int) -> None:
        tables = self._tables
        namespace, name, _ = prefix.split("/", 2)
        await self._ledger.sweep(namespace, "function", name, version)
        for table in (*tables.of_versions, tables.secrets, tables.quotas):
            while keys := await table.list(prefix, limit=TOGETHER):
                await table.batch([Delete(key) for key in keys])
        await tables.gone.delete(prefix)
