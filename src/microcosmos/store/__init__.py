"""Records by key.

`open_store` opens a backend by its URL; third parties add theirs by an entry point of the group
``microcosmos.store``, named after the URL's scheme: a callable that takes the URL and ``clock=``
and returns an async context manager that gives a `Store`. `Table` makes one of a `Backend`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points

from microcosmos.base import errors
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

_GROUP = "microcosmos.store"
_OURS = {"memory": "memory://", "sqlite": "sqlite:///absolute/path.db"}


def open_store(url: str, *, clock: Clock = SYSTEM) -> AbstractAsyncContextManager[Store]:
    """The store of a URL, to be entered with ``async with``.

    Args:
        url: ``memory://``, ``sqlite:///absolute/path.db``, or a third party's.
        clock: what expiry goes by.

    Raises:
        errors.BadRequest: nobody provides that kind of store; the detail lists those known.
    """
    scheme, _, rest = url.partition("://")
    if url == "memory://":
        return MemoryStore(clock=clock)
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return _sqlite(rest, clock)
    return _foreign(url, scheme, clock)


def _sqlite(path: str, clock: Clock) -> AbstractAsyncContextManager[Store]:
    # Here, because it needs locks that Windows, where only the command line runs, has not.
    from .sqlite import SQLiteStore

    # As written, without percent-decoding: the path of a home comes in as it is. Four slashes,
    # as SQLAlchemy writes an absolute path, mean the same.
    return SQLiteStore("/" + path.lstrip("/"), clock=clock)


def _foreign(url: str, scheme: str, clock: Clock) -> AbstractAsyncContextManager[Store]:
    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if scheme in found and scheme not in _OURS:
        store: AbstractAsyncContextManager[Store] = found[scheme].load()(url, clock=clock)
        return store
    known = [*_OURS.values(), *(f"{name}://" for name in sorted(found))]
    raise errors.BadRequest("store", f"{url!r} is no store; known are: {', '.join(known)}")
