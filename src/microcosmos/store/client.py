"""The store over rpc: a backend of the same contract, for services and the command line."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, TypeVar

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from . import wire
from .backend import Backend, Query, Scope
from .interface import Change, Op, Record, Write
from .table import Table

T = TypeVar("T")

logger = logging.getLogger(__name__)

AHEAD = 64
"""Changes that a watch has read before they are asked for."""

RETRY = 0.2
"""Seconds after which a watch that was lost is begun again."""


class Caller(Protocol):
    """Carries calls to the store service."""

    async def call(self, endpoint: str, body: bytes) -> bytes:
        """The answer of an endpoint."""

    def stream(
        self, endpoint: str, body: bytes
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The messages of an endpoint that streams."""


class RpcCaller:
    """Carries calls by rpc.

    Args:
        client: one that calls as the process itself.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, endpoint: str, body: bytes) -> bytes:
        """See `Caller`."""
        return await self._client.call(wire.NAME, endpoint, body)

    def stream(
        self, endpoint: str, body: bytes
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Caller`."""
        return self._client.stream(wire.NAME, endpoint, body)


class RemoteBackend:
    """See `backend.Backend`. An empty table is the caller's own, an empty database its namespace.

    Args:
        caller: carries the calls.
        parts: whether `tables` tells the parts of tables too, as copies of a store need it.
    """

    def __init__(self, caller: Caller, *, parts: bool = False) -> None:
        self._caller = caller
        self._parts = parts

    def __repr__(self) -> str:
        return "rpc://store"

    async def one(self, scope: Scope, key: str) -> Record | None:
        request = wire.ReadRequest(key=key, options=_options(scope))
        try:
            found = await self._ask("Read", request, wire.Records)
        except errors.NotFound as error:
            if error.id != "store":  # the service itself
                raise
            return None
        return found.records[0] if found.records else None

    async def records(self, scope: Scope, query: Query) -> list[Record]:
        found: list[Record] = []
        async for page in self._pages(scope, query, values=True):
            found += page.records
        return found

    async def keys(self, scope: Scope, query: Query) -> list[str]:
        found: list[str] = []
        async for page in self._pages(scope, query, values=False):
            found += page.keys
        return found

    async def _pages(
        self, scope: Scope, query: Query, *, values: bool
    ) -> AsyncGenerator[wire.PageOf, None]:
        left = query.limit
        while True:
            request = wire.Page(options=_place(scope), query=query, values=values)
            page = await self._ask("Page", request, wire.PageOf)
            yield page
            names = [record.key for record in page.records] or page.keys
            spent = sum(len(record.value) for record in page.records)
            left -= len(names)
            enough = (query.limit and left <= 0) or (query.max_bytes and spent >= query.max_bytes)
            if not page.more or not names or enough:
                return
            query = msgspec.structs.replace(
                query,
                after=names[-1],
                offset=0,
                limit=left if query.limit else 0,
                max_bytes=query.max_bytes and query.max_bytes - spent,
            )

    async def count(self, scope: Scope, query: Query) -> int:
        request = wire.Page(options=_place(scope), query=query)
        return (await self._ask("Count", request, wire.Number)).count

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        for op in ops:
            if isinstance(op, Write):
                wire.check_value(op.key, op.value)
        request = wire.Batch(ops=list(ops), options=_place(scope))
        return (await self._ask("Batch", request, wire.Version)).version

    async def tables(self, database: str) -> list[str]:
        request = {"database": database, "parts": self._parts}
        answer = await self._ask("Tables", request, wire.Tables)
        return answer.tables

    async def databases(self) -> list[str]:
        return (await self._ask("Databases", {}, wire.Databases)).databases

    async def version(self) -> int:
        return (await self._ask("Version", {}, wire.Version)).version

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Backend]:
        """Itself: over rpc there is no view that writes leave alone."""
        yield self

    def watch(
        self, scope: Scope, prefix: str, since: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """See `backend.Backend`; a store that was away is watched again from where it was."""
        return Watch(self._caller, wire.Watching(prefix=prefix, since=since, options=_place(scope)))

    async def _ask(self, method: str, request: Any, kind: type[T]) -> T:
        answer = await self._caller.call(f"Store.{method}", codec.encode(request))
        return msgspec.json.decode(answer, type=kind)


def _place(scope: Scope) -> wire.Place:
    return wire.Place(database=scope[0], table=scope[1])


def _options(scope: Scope) -> wire.ReadOptions:
    return wire.ReadOptions(database=scope[0], table=scope[1])


class Watch:
    """The changes of a table over rpc, while it is entered.

    What was seen last is where it goes on when the store has been away, so of a batch in whose
    middle the line broke a change may come twice.

    Args:
        caller: carries the stream.
        watching: what is watched.
    """

    def __init__(self, caller: Caller, watching: wire.Watching) -> None:
        self._caller = caller
        self._watching = watching
        self._begun = asyncio.Event()
        self._news: asyncio.Queue[Change | errors.Error | None] = asyncio.Queue(AHEAD)
        self._end: errors.Error | bool | None = False

    async def __aenter__(self) -> AsyncIterator[Change]:
        # A context of its own: it outlives the call that it may be opened in.
        self._task = asyncio.create_task(
            self._follow(), name="watch of the store", context=contextvars.Context()
        )
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait((self._task, begun), return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        except BaseException:
            self._task.cancel()
            raise
        finally:
            begun.cancel()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        while not self._news.empty():
            self._news.get_nowait()
        self._news.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        if self._end is False:
            news = await self._news.get()
            if isinstance(news, Change):
                return news
            self._end = news
        if isinstance(self._end, errors.Error):
            raise self._end
        raise StopAsyncIteration

    async def _follow(self) -> None:
        try:
            while True:
                try:
                    await self._once()
                except errors.Error as error:
                    # Before it has begun all is told, after that what another try does not mend.
                    if not self._begun.is_set() or error.code in (400, 401, 403, 409):
                        raise
                    logger.debug("the store does not answer: %s", error)
                await asyncio.sleep(RETRY)
        except errors.Error as error:
            if not self._begun.is_set():
                raise
            await self._news.put(error)

    async def _once(self) -> None:
        async with self._caller.stream("Store.Watch", codec.encode(self._watching)) as stream:
            async for message in stream:
                seen = msgspec.json.decode(message, type=wire.Seen)
                if seen.key:
                    await self._news.put(Change(seen.key, seen.version, seen.record))
                    self._since(max(seen.version - 1, 0))
                elif self._watching.since is None:
                    self._since(seen.version)
                self._begun.set()

    def _since(self, version: int) -> None:
        self._watching = msgspec.structs.replace(self._watching, since=version)


class ServiceStore(Table):
    """A service's own tables, and by `of` those that others have granted to it.

    Args:
        backend: over rpc.
        owner: the service.
        namespace: where it is.
        table: one of its further tables; empty is its own.
    """

    def __init__(self, backend: Backend, owner: str, namespace: str, table: str = "") -> None:
        super().__init__(backend, (namespace, f"{owner}/{table}" if table else owner))
        self._owner = owner

    def table(self, name: str = "", *, database: str = "") -> ServiceStore:
        """A further table of the service; empty is its own."""
        return ServiceStore(self._backend, self._owner, database or self._scope[0], name)

    def of(self, service: str) -> ServiceStore:
        """The tables of another service, as far as it has granted them to this one."""
        return ServiceStore(self._backend, service, self._scope[0])
