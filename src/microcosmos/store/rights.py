"""Rights: which tables who calls the store service may reach."""

from __future__ import annotations

from typing import Protocol, cast

from microcosmos.base import context, errors, names

from .grants import Grants, owner_of
from .interface import DEFAULT, Store
from .wire import Grant, Place

PART = "$"
"""What stands between a table and the name of a part of it, such as an index; see `whole`."""


class Account(Protocol):
    """What the store asks of who calls; `auth` has it."""

    @property
    def id(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    def enters(self, namespace: str) -> bool: ...

    def administers(self, namespace: str) -> bool: ...


class Rights:
    """Opens tables for who calls.

    A service reaches its own tables, and those granted to it; an admin those of the namespace.
    Without a verifier in front, as in memory, everybody reaches all.

    Args:
        store: with all databases.
        grants: which service may use a table of another.
    """

    def __init__(self, store: Store, grants: Grants) -> None:
        self._store = store
        self._grants = grants

    async def table(self, place: Place, access: Grant = "read") -> Store:
        """A table that the caller may use so; empty is the caller's own, or `DEFAULT`.

        Raises:
            errors.Forbidden: they may not.
        """
        database = self.database(place.database)
        who = account()
        own = who.id if who is not None and who.type == "service" else DEFAULT
        table = place.table or own
        await self.allow(database, table, access)
        return self._store.table(table, database=database)

    def database(self, named: str) -> str:
        """The database that a request means, if the caller may enter it.

        Raises:
            errors.BadRequest: it is no namespace.
            errors.Forbidden: they may not.
        """
        here = context.current().namespace
        database = names.check_namespace(named or here)
        who = account()
        if who is not None and not who.enters(database):
            detail = f"{who.id} of namespace {who.namespace} may not enter {database}"
            raise errors.Forbidden("store", detail)
        return database

    async def allow(self, database: str, table: str, access: Grant) -> None:
        """Refuse who may not use a table so.

        Raises:
            errors.Forbidden: the detail says who can let them.
        """
        who = account()
        if who is None or who.administers(database) or owner_of(table) == who.id:
            return
        if await self._grants.has(database, whole(table), who.id, access):
            return
        raise errors.Forbidden(
            "store",
            f"{who.id} may not {access} the table {table}; its owner or an admin can let it: "
            f"`micro store grant {table} {who.id} --access {access}`",
        )


def whole(table: str) -> str:
    """The table that a part, such as an index, belongs to, and whose rights it has."""
    return table.partition(PART)[0]


def account() -> Account | None:
    """Who calls; None where nobody looks."""
    return cast("Account | None", context.current().account)
