"""What a service keeps: records, blobs, settings; on whatever platform it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple

from microcosmos.config.following import ServiceConfig
from microcosmos.rpc import Client
from microcosmos.store import Store
from microcosmos.store.blobs import Blobs
from microcosmos.store.client import RemoteBackend, RpcCaller, ServiceStore
from microcosmos.store.index import Index, Indexed, Indexer, IndexKey, Row, Status


class Declared(NamedTuple):
    """An index that a service wants to have."""

    id: str
    indexer: Indexer
    version: str
    table: str


class OwnStore(Indexed):
    """A service's own tables with their indexes, and by `of` those that others have granted."""

    def __init__(self, store: ServiceStore) -> None:
        super().__init__(store)
        self._tables = store

    def of(self, service: str) -> Store:
        """The tables of another service, as far as it has granted them to this one."""
        return self._tables.of(service)


class Data:
    """What a running service keeps, entered while it runs.

    Attributes:
        store: its records.
        config: the namespace's settings, followed.

    Args:
        client: carries the calls.
        name: of the service.
        namespace: where it lives.
        indexes: what its tables are found by, besides their keys.
    """

    def __init__(
        self, client: Client, name: str, namespace: str, indexes: Iterable[Declared] = ()
    ) -> None:
        # Its own calls, whomever it is serving: what it keeps is not its callers'.
        self._tables = ServiceStore(RemoteBackend(RpcCaller(client.own())), name, namespace)
        self.store = OwnStore(self._tables)
        self.config = ServiceConfig(client, name, namespace=namespace)
        self._indexes = {(one.table, one.id): self._index(one) for one in indexes}
        self._stack = AsyncExitStack()
        self._blobs: Blobs | None = None
        self._entering: asyncio.Task[Blobs] | None = None

    def _index(self, declared: Declared) -> Index:
        table = self.store.table(declared.table) if declared.table else self.store
        return table.index(declared.id, declared.indexer, version=declared.version)

    def index(self, declared: Declared) -> Index:
        """An index that was declared."""
        return self._indexes[declared.table, declared.id]

    @property
    def blobs(self) -> Blobs:
        """Its blobs; old content is removed from when they are first asked for."""
        if self._blobs is None:
            self._blobs = Blobs(self._tables)
            entering = self._stack.enter_async_context(self._blobs)
            self._entering = asyncio.create_task(entering, name="blobs")
        return self._blobs

    async def __aenter__(self) -> Data:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.config)
            await stack.enter_async_context(self.store)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._entering is not None:
            await asyncio.wait([self._entering])
        await self._stack.aclose()


class DataOf:
    """Gives what a service keeps, while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data: Data | None = None

    def __call__(self) -> Data:
        """What it keeps.

        Raises:
            RuntimeError: the service does not run.
        """
        if self.data is None:
            raise RuntimeError(f"{self.name} does not run yet, so it has no store and no config")
        return self.data


class ServiceIndex:
    """An index that a service declares before it runs, and reads while it does; see `Index`."""

    def __init__(self, declared: Declared, data: DataOf) -> None:
        self._declared = declared
        self._data = data

    @property
    def _index(self) -> Index:
        return self._data().index(self._declared)

    async def get(self, index_key: IndexKey, *, values: bool = False) -> list[Row]:
        """The rows of one index key; see `Index.get`."""
        return await self._index.get(index_key, values=values)

    async def read(self, **query: Any) -> list[Row]:
        """The rows of a range; see `Index.read`."""
        return await self._index.read(**query)

    async def count(self, **query: Any) -> int:
        """How many rows there are; see `Index.count`."""
        return await self._index.count(**query)

    async def wait(self) -> None:
        """Return once the index is complete."""
        await self._index.wait()

    async def status(self) -> Status:
        """How far it is."""
        return await self._index.status()
