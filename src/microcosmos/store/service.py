"""The store served over rpc: each service its own tables, with the endpoints of Micro v3."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Hosted

from . import rights, wire
from .blob_service import BlobService
from .grants import Grants, owner_of
from .interface import Op, Record, Store, Write
from .wire import Place

MAX_KEYS = 2000
"""The most keys or records in one page of an answer."""

MAX_LISTED = 50_000
"""The most keys that `Store.List` gives at once."""

PAGE_BYTES = 1024 * 1024
"""About the most bytes in one page of an answer."""

_HIDDEN = "$"
_INDEX = "$index"


class StoreService:
    """Serves a store.

    A service reaches its own tables, and those granted to it; an admin those of the namespace.
    Without a verifier in front, as in memory, everybody reaches all.

    Args:
        store: with all databases.
        audit: notes changes of grants.
    """

    def __init__(self, store: Store, audit: Audit = unaudited) -> None:
        self._store = store
        self._grants = Grants(store)
        self._rights = rights.Rights(store, self._grants)
        self._blobs = BlobService(self._rights)
        self._audit = audit

    def hosted(self) -> Hosted:
        """The service ``store``."""
        functions: dict[str, Callable[..., Any]] = {
            "Store.Read": self.read,
            "Store.Write": self.write,
            "Store.Delete": self.delete,
            "Store.List": self.list,
            "Store.Count": self.count,
            "Store.Batch": self.batch,
            "Store.Watch": self.watch,
            "Store.Databases": self.databases,
            "Store.Tables": self.tables,
            "Store.Grant": self.grant,
            "Store.Revoke": self.revoke,
            "Store.Grants": self.grants,
        }
        unlisted: dict[str, Callable[..., Any]] = {
            "Store.Page": self.page,
            "Store.Version": self.version,
        }
        endpoints = [
            endpoint(function, wire.NAME, name=name, lenient=True, access="service")
            for name, function in functions.items()
        ]
        endpoints += [
            endpoint(
                function,
                wire.NAME,
                name=name,
                lenient=True,
                access="service",
                metadata=wire.UNLISTED,
            )
            for name, function in unlisted.items()
        ]
        return Hosted(wire.NAME, [*endpoints, *self._blobs.endpoints()])

    async def read(self, request: wire.ReadRequest) -> wire.Records:
        """The record of a key, or with prefix or suffix those whose keys begin or end so."""
        options = request.options
        table = await self._rights.table(options)
        if not (options.prefix or options.suffix):
            record = await table.read(request.key)
            return wire.Records(_sendable([record]))
        records = await table.read(
            prefix=request.key if options.prefix else "",
            suffix=request.key if options.suffix else "",
            limit=options.limit,
            offset=options.offset,
            order=wire.order_of(options.order),
            max_bytes=wire.MAX_REMOTE_VALUE + 1,
        )
        return wire.Records(_sendable(records))

    async def write(self, request: wire.WriteRequest) -> wire.Version:
        """Write a record; the answer has its version."""
        record = request.record
        table = await self._rights.table(request.options, "write")
        version = await table.write(
            record.key,
            wire.check_value(record.key, record.value),
            expiry=record.expiry,
            metadata=record.metadata,
            version=record.version,
        )
        return wire.Version(version)

    async def delete(self, request: wire.DeleteRequest) -> None:
        """Delete a record; a key that has none is no error."""
        table = await self._rights.table(request.options, "write")
        await table.delete(request.key, version=request.version)

    async def list(self, request: wire.ListRequest) -> wire.Keys:
        """The keys that begin and end so."""
        options = request.options
        table = await self._rights.table(options)
        keys = await table.list(
            options.prefix,
            suffix=options.suffix,
            limit=options.limit or MAX_LISTED + 1,
            offset=options.offset,
            order=wire.order_of(options.order),
        )
        if len(keys) > MAX_LISTED:
            detail = f"there are more than {MAX_LISTED} keys; list them in parts, with limit"
            raise errors.TooLarge("store", detail)
        return wire.Keys(keys)

    async def count(self, request: wire.Page) -> wire.Number:
        """How many records match a query."""
        table = await self._rights.table(request.options)
        query = request.query
        number = await table.count(
            prefix=query.prefix, suffix=query.suffix, start=query.start, end=query.end
        )
        return wire.Number(number)

    async def page(self, request: wire.Page) -> wire.PageOf:
        """A part of the records or keys that match a query."""
        table = await self._rights.table(request.options)
        query = request.query
        limit = min(query.limit or MAX_KEYS, MAX_KEYS)
        fields = {**msgspec.structs.asdict(query), "limit": limit}
        if request.values:
            fields["max_bytes"] = most = min(query.max_bytes or PAGE_BYTES, PAGE_BYTES)
            records = await table.read(**fields)
            kept = _fitting(records)
            full = len(kept) < len(records) or sum(len(one.value) for one in records) >= most
            return wire.PageOf(records=kept, more=full or len(records) == limit)
        del fields["max_bytes"]
        keys = await table.list(**fields)
        return wire.PageOf(keys=keys, more=len(keys) == limit)

    async def batch(self, request: wire.Batch) -> wire.Version:
        """Do writes and deletes together, or none of them."""
        options = request.options
        table = await self._rights.table(options, "write")
        ops = [await self._op(op, options) for op in request.ops]
        return wire.Version(await table.batch(ops))

    async def watch(self, request: wire.Watching) -> AsyncGenerator[wire.Seen, None]:
        """The changes of a table; the first message says that they are seen from now on."""
        table = await self._rights.table(request.options)
        async with table.watch(prefix=request.prefix, since=request.since) as changes:
            yield wire.Seen(version=await table.version())
            async for change in changes:
                yield wire.Seen(version=change.version, key=change.key, record=change.record)

    async def version(self) -> wire.Version:
        """The version of the store's last change."""
        return wire.Version(await self._store.version())

    async def databases(self) -> wire.Databases:
        """The databases that the caller may enter: one a namespace."""
        account = rights.account()
        found = [
            name
            for name in await self._store.databases()
            if not name.startswith(_HIDDEN) and (account is None or account.enters(name))
        ]
        return wire.Databases(found)

    async def tables(self, database: str = "", parts: bool = False) -> wire.Tables:
        """The tables of a database that the caller may read.

        With parts, also what belongs to them and cannot be made anew: blobs, but no indexes.
        """
        account = rights.account()
        namespace = self._rights.database(database)
        found = [
            table
            for table in await self._store.table(database=namespace).tables()
            if rights.PART not in table or (parts and _INDEX not in table)
        ]
        if account is not None and not account.administers(namespace):
            found = [
                table
                for table in found
                if owner_of(table) == account.id
                or await self._grants.has(namespace, rights.whole(table), account.id, "read")
            ]
        return wire.Tables(found)

    async def grant(self, request: wire.GrantRequest) -> None:
        """Let another service read a table, or write to it too."""
        namespace = self._owned(request)
        granted = wire.Granted(table=request.table, service=request.service, access=request.access)
        await self._grants.allow(namespace, granted)
        detail = f"{request.service} may {request.access}"
        await self._audit("table granted", request.table, detail)

    async def revoke(self, request: wire.GrantRequest) -> None:
        """Take a grant back."""
        namespace = self._owned(request)
        await self._grants.withdraw(namespace, request.table, request.service)
        await self._audit("grant revoked", request.table, request.service)

    async def grants(self, database: str = "") -> wire.Grants:
        """The grants of a namespace; a service sees those of its own tables."""
        namespace, account = self._rights.database(database), rights.account()
        mine = account is not None and not account.administers(namespace)
        owner = account.id if account is not None and mine else ""
        return wire.Grants(await self._grants.all(namespace, owner))

    async def _op(self, op: Op, options: Place) -> Op:
        if isinstance(op, Write):
            wire.check_value(op.key, op.value)
        if not op.table:
            return op
        place = Place(database=options.database, table=op.table)
        await self._rights.allow(self._rights.database(options.database), place.table, "write")
        return op

    def _owned(self, request: wire.GrantRequest) -> str:
        """The namespace of a table whose grants the caller may change."""
        namespace, account = self._rights.database(request.database), rights.account()
        if account is None or account.administers(namespace):
            return namespace
        if owner_of(request.table) == account.id:
            return namespace
        detail = f"only {owner_of(request.table)} and admins may share the table {request.table}"
        raise errors.Forbidden("store", detail)


def _size(record: Record) -> int:
    return (
        len(record.key)
        + len(record.value)
        + sum(len(k) + len(v) for k, v in record.metadata.items())
    )


def _fitting(records: Sequence[Record]) -> list[Record]:
    """As many of the records, one at least, as an answer of rpc can carry."""
    total = 0
    kept: list[Record] = []
    for record in records:
        total += _size(record)
        if kept and total > wire.MAX_REMOTE_VALUE:
            break
        kept.append(record)
    return kept


def _sendable(records: Sequence[Record]) -> list[Record]:
    """The records, if an answer of rpc can carry them all."""
    if len(records) > 1 and sum(map(_size, records)) > wire.MAX_REMOTE_VALUE:
        raise errors.TooLarge(
            "store",
            f"these {len(records)} records are more than {wire.MAX_REMOTE_VALUE} bytes; "
            "read them in parts, with limit and offset",
        )
    return list(records)
