"""Watchers: each asks the backend for what changed after the last it saw, when told to look.

A notice carries no change, so nothing piles up for a slow watcher, no writer waits for one, and a
notice that got lost costs time only: the next one finds all that was missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Protocol

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .backend import Scope
from .interface import Change

REMEMBERED_FOR = 3600.0
"""Seconds for which a delete is remembered, for those who watch since a version."""

MAX_REMEMBERED = 100_000
"""How many deletes of all tables are remembered, the last ones; looked at with every purge."""

MAX_PAGE = 500
"""Changes that are looked at for a watcher at once; those of other prefixes are passed over."""

MAX_PAGE_BYTES = 1024 * 1024
"""Bytes of values that are read for a watcher at once, the last one whole."""

RETRY = 1.0
"""Seconds after which a watcher asks again when the database is away."""

_END = b"\xff"  # behind every key

logger = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """A place in the order of changes: behind the change of this key at this version."""

    version: int
    key: bytes = _END


class Page(NamedTuple):
    """Some changes, where they end, and whether there may be more right now."""

    changes: list[Change]
    end: Cursor
    more: bool


class Source(Protocol):
    """What watchers ask of a backend."""

    async def version(self) -> int:
        """The version of the last change; all changes up to it can be read."""

    async def changes(self, scope: Scope, prefix: str, after: Cursor) -> Page:
        """The next changes after a place, by version and key.

        Raises:
            errors.Conflict: what `check_since` says.
        """


def check_since(after: Cursor, last: int, forgotten: int) -> None:
    """Refuse a place that nothing is known of.

    Args:
        after: the place.
        last: the version of the last change to the store.
        forgotten: the version up to which deletes in the table are forgotten.

    Raises:
        errors.Conflict: changes after the place may be unknown.
    """
    if after.version < forgotten:
        why = f"deletes up to version {forgotten} are forgotten"
    elif after.version > last:
        why = f"the store is at version {last} only"
    else:
        return
    detail = f"cannot watch since version {after.version}: {why}; read anew, then watch"
    raise errors.Conflict("store", detail)


class Watches:
    """The watchers of a backend.

    Args:
        source: the backend.
        clock: what the pause of a watcher goes by.
    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source
        self.clock = clock
        self._open: dict[Scope, set[Watch]] = {}
        self.closed = False

    def __len__(self) -> int:
        return sum(len(watches) for watches in self._open.values())

    def open(self, scope: Scope, prefix: str, since: int | None) -> Watch:
        """A watcher, to be entered."""
        return Watch(self, scope, prefix, since)

    def add(self, watch: Watch) -> None:
        self._open.setdefault(watch.scope, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        watches = self._open.get(watch.scope, set())
        watches.discard(watch)
        if not watches:
            self._open.pop(watch.scope, None)

    def tell(self, places: Iterable[tuple[str, str, bytes]]) -> None:
        """Wake those who watch one of these records: database, table, key."""
        if not self._open:
            return
        for database, table, key in places:
            for watch in self._open.get((database, table), ()):
                watch.look(key)

    def tell_tables(self, scopes: Iterable[Scope]) -> None:
        """Wake those who watch one of these tables."""
        for scope in scopes:
            for watch in self._open.get(scope, ()):
                watch.look()

    def tell_all(self) -> None:
        """Wake every watcher."""
        self.tell_tables(self._open)

    def close(self) -> None:
        """End every watcher."""
        self.closed = True
        self.tell_all()


class Watch:
    """One watcher: an async context manager that gives itself as the iterator of changes."""

    def __init__(self, watches: Watches, scope: Scope, prefix: str, since: int | None) -> None:
        self.scope = scope
        self._watches = watches
        self._prefix, self._start = prefix, prefix.encode()
        self._since = since
        self._changes: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._left = False
        self._waiting = False

    async def __aenter__(self) -> Watch:
        source = self._watches.source
        self._watches.add(self)
        try:
            if self._since is None:
                self._cursor = Cursor(await source.version())
            else:
                self._take(await source.changes(self.scope, self._prefix, Cursor(self._since)))
        except BaseException:
            self._watches.remove(self)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watches.remove(self)
        self._left = True
        self._wake.set()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            await self._wake.wait()
            if self._left:
                raise StopAsyncIteration
            if self._watches.closed:
                raise errors.Unavailable("store", "the store is closed")
            await self._fetch()
        return self._changes.popleft()

    def look(self, key: bytes | None = None) -> None:
        """Ask for changes, since there may be some, or one of this key."""
        if key is None or key.startswith(self._start):
            self._wake.set()

    async def _fetch(self) -> None:
        self._wake.clear()
        try:
            self._take(await self._watches.source.changes(self.scope, self._prefix, self._cursor))
        except errors.Unavailable as exc:
            if self._watches.closed:
                raise
            if not self._waiting:
                logger.warning("a watch of %s waits: %s", "/".join(self.scope), exc)
            self._waiting = True
            self._wake.set()
            await self._watches.clock.sleep(RETRY)
        except BaseException:
            self._wake.set()  # given up by its caller, who may ask again
            raise

    def _take(self, page: Page) -> None:
        self._changes.extend(page.changes)
        self._cursor = page.end
        self._waiting = False
        if page.more:
            self._wake.set()
