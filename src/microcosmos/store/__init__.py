"""Records by key.

`open_store` opens a backend by its URL; third parties add theirs by an entry point of the group
``microcosmos.store``, named after the URL's scheme: a callable that takes the URL and ``clock=``
and returns an async context manager that gives a `Store`. `Table` makes one of a `Backend`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import EntryPoint

from microcosmos.base import errors, plugins, urls
from microcosmos.base.clock import SYSTEM, Clock

from .backend import Backend, Query, Scope
from .interface import (
    DEFAULT,
    MAX_KEY,
    MAX_VALUE,
    PLATFORM,
    Change,
    Check,
    Delete,
    Op,
    Order,
    Record,
    Store,
    Write,
)
from .memory import MemoryStore
from .table import Table

__all__ = [
    "DEFAULT",
    "MAX_KEY",
    "MAX_VALUE",
    "PLATFORM",
    "Backend",
    "Change",
    "Check",
    "Delete",
    "Op",
    "Order",
    "Query",
    "Record",
    "Scope",
    "Store",
    "Table",
    "Write",
    "open_store",
]

GROUP = "microcosmos.store"
"""The entry points that bring other packages' stores, each named after its URL's scheme."""

_OURS = {
    "memory": "memory://",
    "sqlite": "sqlite:///absolute/path.db",
    "postgres": "postgres://user:password@host/database",
    "postgresql": "",
}


def open_store(url: str, *, clock: Clock = SYSTEM) -> AbstractAsyncContextManager[Store]:
    """The store of a URL, to be entered with ``async with``.

    Args:
        url: ``memory://``, ``sqlite:///absolute/path.db``, ``postgres://user:password@host/db``
            (or ``postgresql://``), or a third party's.
        clock: what expiry goes by.

    Raises:
        errors.BadRequest: nobody provides that kind of store; the detail lists those known, or
            what is missing for it.
    """
    scheme, _, rest = url.partition("://")
    if url == "memory://":
        return MemoryStore(clock=clock)
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return _sqlite(rest, clock)
    if scheme in ("postgres", "postgresql") and rest:
        return _postgres(url, clock)
    return _foreign(url, scheme, clock)


def _sqlite(path: str, clock: Clock) -> AbstractAsyncContextManager[Store]:
    # Here, because it needs locks that Windows, where only the command line runs, has not.
    from .sqlite import SQLiteStore

    # As written, without percent-decoding: the path of a home comes in as it is. Four slashes,
    # as SQLAlchemy writes an absolute path, mean the same.
    return SQLiteStore("/" + path.lstrip("/"), clock=clock)


def _postgres(url: str, clock: Clock) -> AbstractAsyncContextManager[Store]:
    # Here, because few need what it takes.
    try:
        from .postgres import PostgresStore
    except ModuleNotFoundError as exc:
        if exc.name != "asyncpg":
            raise
        way_out = "pip install 'microcosmos[postgres]'"
        raise errors.BadRequest("store", f"PostgreSQL needs asyncpg: {way_out}") from None
    return PostgresStore(url, clock=clock)


def _foreign(url: str, scheme: str, clock: Clock) -> AbstractAsyncContextManager[Store]:
    entry = None if scheme in _OURS else plugins.found(GROUP, scheme)
    if entry is not None:
        return _plugin(entry, url, clock)
    brought = (f"{name}://" for name in plugins.names(GROUP) if name not in _OURS)
    known = ", ".join([*filter(None, _OURS.values()), *brought])
    raise errors.BadRequest("store", f"{urls.masked(url)!r} is no store; known are: {known}")


@asynccontextmanager
async def _plugin(entry: EntryPoint, url: str, clock: Clock) -> AsyncIterator[Store]:
    """A third party's store, whose package is named when it cannot be opened."""
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(plugins.load(entry)(url, clock=clock))
        except errors.Error:
            raise
        except Exception as exc:  # noqa: BLE001 - another's code may raise anything
            raise plugins.broken(entry, f"cannot be opened: {type(exc).__name__}: {exc}") from None
        yield store
