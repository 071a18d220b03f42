"""Grants: which service may use a table of another, by its owner's or an admin's word."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors, names

from .interface import PLATFORM, Store
from .wire import Grant, Granted

_TABLE = "grants"


class Grants:
    """The grants of all namespaces.

    Args:
        store: where they are kept, in the platform's own database.
    """

    def __init__(self, store: Store) -> None:
        self._table = store.table(_TABLE, database=PLATFORM)

    async def allow(self, namespace: str, granted: Granted) -> None:
        """Let a service use a table; what it had of that table before is replaced.

        Raises:
            errors.BadRequest: the service has no good name, or owns the table.
        """
        names.check_service(granted.service)
        if owner_of(granted.table) == granted.service:
            detail = f"{granted.table} is {granted.service}'s own table"
            raise errors.BadRequest("store", detail)
        await self._table.set(_key(namespace, granted.table, granted.service), granted)

    async def withdraw(self, namespace: str, table: str, service: str) -> None:
        """Take a grant back.

        Raises:
            errors.NotFound: there is none.
        """
        key = _key(namespace, table, service)
        if not await self._table.has(key):
            raise errors.NotFound("store", f"{service} has no grant for the table {table}")
        await self._table.delete(key)

    async def has(self, namespace: str, table: str, service: str, access: Grant) -> bool:
        """Whether a service may do that with a table."""
        granted = await self._table.get(_key(namespace, table, service), Granted)
        return granted is not None and (access == "read" or granted.access == "write")

    async def all(self, namespace: str, owner: str = "") -> list[Granted]:
        """The grants of a namespace, of one owner's tables or of all, sorted."""
        records = await self._table.read(prefix=f"{namespace}\n")
        found = [msgspec.json.decode(record.value, type=Granted) for record in records]
        return [one for one in found if not owner or owner_of(one.table) == owner]


def owner_of(table: str) -> str:
    """The service that a table belongs to; an index belongs to its table's owner."""
    return table.partition("/")[0].partition("$")[0]


def _key(namespace: str, table: str, service: str) -> str:
    # No name of a table has a line break.
    return f"{namespace}\n{table}\n{service}"
