"""A `Store` over a backend: the conveniences and checks, written once for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from microcosmos.base import codec, errors

from . import checks
from .backend import Backend, FrozenBackend, Scope, shown
from .interface import DEFAULT, Change, Delete, Op, Order, Record, Write

T = TypeVar("T")


class Table:
    """One table of a backend; see `Store`.

    Args:
        backend: where the records are.
        scope: the database and the table.
    """

    def __init__(self, backend: Backend, scope: Scope = (DEFAULT, DEFAULT)) -> None:
        self._backend = backend
        self._scope = scope

    def __repr__(self) -> str:
        return f"<table {'/'.join(self._scope)} of {self._backend!r}>"

    @property
    def scope(self) -> Scope:
        return self._scope

    @property
    def is_frozen(self) -> bool:
        """Whether this is a view as of one version."""
        return isinstance(self._backend, FrozenBackend)

    @overload
    async def read(self, key: str) -> Record: ...

    @overload
    async def read(
        self,
        *,
        prefix: str = "",
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
        max_bytes: int = 0,
    ) -> list[Record]: ...

    async def read(self, key: str | None = None, **query: Any) -> Record | list[Record]:
        if key is None:
            return await self._backend.records(self._scope, checks.query(**query))
        if query:
            raise errors.BadRequest("store", f"read either a key or a {next(iter(query))}")
        record = await self._backend.one(self._scope, checks.key(key))
        if record is None:
            table = "/".join(self._scope)
            raise errors.NotFound("store", f"there is no key {shown(key)} in table {table}")
        return record

    async def write(
        self,
        key: str,
        value: bytes,
        *,
        expiry: float = 0,
        metadata: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> int:
        return await self.batch([Write(key, value, expiry, metadata or {}, version)])

    async def delete(self, key: str, *, version: int | None = None) -> None:
        await self.batch([Delete(key, version)])

    async def batch(self, ops: Sequence[Op]) -> int:
        checks.batch(ops, self._scope[1])
        return await self._backend.apply(self._scope, ops) if ops else 0

    async def count(
        self, *, prefix: str = "", suffix: str = "", start: str = "", end: str = ""
    ) -> int:
        query = checks.query(prefix=prefix, suffix=suffix, start=start, end=end)
        return await self._backend.count(self._scope, query)

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, type: type[T]) -> T | None: ...

    async def get(self, key: str, type: Any = Any) -> Any:
        return _decoded(await self._backend.one(self._scope, checks.key(key)), type)

    async def set(self, key: str, value: Any, *, expiry: float = 0) -> None:
        if value is None:
            await self.delete(key)
        else:
            await self.write(key, codec.encode(value), expiry=expiry)

    async def has(self, key: str) -> bool:
        return await self._backend.one(self._scope, checks.key(key)) is not None

    async def modify(self, key: str, change: Callable[[Any], Any], type: Any = Any) -> Any:
        while True:
            record = await self._backend.one(self._scope, checks.key(key))
            value = change(_decoded(record, type))
            try:
                await self._replace(record or Record(key), value)
            except errors.Conflict:
                continue
            return value

    async def _replace(self, old: Record, value: Any) -> None:
        if value is None:
            await self.delete(old.key, version=old.version)
        else:
            data = codec.encode(value)
            await self.batch([Write(old.key, data, old.expiry, old.metadata, old.version)])

    async def all_keys(
        self, *, prefix: str = "", start: str = "", end: str = "", batch_size: int = 100
    ) -> AsyncIterator[str]:
        after = ""
        while page := await self.list(prefix, start=start, end=end, limit=batch_size, after=after):
            for key in page:
                yield key
            after = page[-1]

    async def version(self) -> int:
        return await self._backend.version()

    def watch(
        self, *, prefix: str = "", since: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._backend.watch(self._scope, *checks.watch(prefix, since))

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Table]:
        async with self._backend.frozen() as view:
            yield Table(view, self._scope)

    def table(self, name: str = "", *, database: str = "") -> Table:
        scope = (
            checks.name(database or self._scope[0], "database"),
            checks.name(name or self._scope[1], "table"),
        )
        return Table(self._backend, scope)

    def part(self, name: str) -> Table:
        whole = checks.name(f"{self._scope[1]}${name}", "table")
        return Table(self._backend, (self._scope[0], whole))

    async def tables(self) -> list[str]:
        return await self._backend.tables(self._scope[0])

    async def databases(self) -> list[str]:
        return await self._backend.databases()

    # Last, as in `Store`.
    async def list(
        self,
        prefix: str = "",
        *,
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
    ) -> list[str]:
        query = checks.query(
            prefix=prefix,
            suffix=suffix,
            start=start,
            end=end,
            limit=limit,
            offset=offset,
            order=order,
            after=after,
        )
        return await self._backend.keys(self._scope, query)


def _decoded(record: Record | None, type: Any) -> Any:
    if record is None:
        return None
    try:
        return codec.decode(record.value, type)
    except errors.BadRequest as exc:
        raise errors.BadRequest(
            "store", f"the value of {shown(record.key)}: {exc.detail}"
        ) from None
