"""The schema registry: the schemas of all namespaces, in a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from microcosmos.base import errors, names
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store import Delete, Store

from .catalogue import Catalogue
from .kept import Keys

TABLE = "schemas"
"""The table of the registry, in the database of the platform."""

PAGE = 500
"""Records that are removed at once when a namespace is cleared."""


class Changed(msgspec.Struct, frozen=True):
    """What has changed in a namespace.

    Attributes:
        everything: whatever was known may be another: what a follower is told first.
        subjects: those with a new, deleted or restored version, or with other settings.
    """

    everything: bool = False
    subjects: list[str] = []


class Registry:
    """The schemas of all namespaces.

    Args:
        store: a table of its own: ``store.table(TABLE, database=PLATFORM)``.
        clock: where the times of versions come from.
    """

    def __init__(self, store: Store, *, clock: Clock = SYSTEM) -> None:
        self._store = store
        self._clock = clock
        self._catalogues: dict[str, Catalogue] = {}
        self._closed = asyncio.Event()

    def of(self, namespace: str) -> Catalogue:
        """The schemas of a namespace.

        Raises:
            errors.BadRequest: it cannot be one.
        """
        found = self._catalogues.get(namespace)
        if found is None:
            names.check_namespace(namespace)
            found = Catalogue(self._store, namespace, self._clock)
            self._catalogues[namespace] = found
        return found

    async def follow(self, namespace: str) -> AsyncGenerator[Changed, None]:
        """What changes in a namespace from now on; first of all, that everything may have.

        Raises:
            errors.Unavailable: the registry is closed.
        """
        keys = Keys(names.check_namespace(namespace))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            async with self._store.watch(prefix=keys.all) as changes:
                yield Changed(everything=True)
                while True:
                    change = asyncio.ensure_future(anext(changes))
                    try:
                        await asyncio.wait((change, closed), return_when=asyncio.FIRST_COMPLETED)
                        if not change.done():
                            raise errors.Unavailable("schema", "the core stops")
                    finally:
                        change.cancel()
                    if (told := _told(keys, change.result().key)) is not None:
                        yield told
        finally:
            closed.cancel()

    async def clear(self, namespace: str) -> None:
        """Forget a namespace that is no more."""
        keys = Keys(names.check_namespace(namespace))
        while found := await self._store.list(keys.all, limit=PAGE):
            await self._store.batch([Delete(key) for key in found])
        self._catalogues.pop(namespace, None)

    def close(self) -> None:
        """Let go who follows."""
        self._closed.set()


def _told(keys: Keys, key: str) -> Changed | None:
    for prefix in (keys.subjects, keys.settings):
        if key.startswith(prefix):
            subject = key.removeprefix(prefix)
            # Without a name, or with a service's alone, it is about more subjects than one.
            many = not subject or subject.endswith("/")
            return Changed(everything=True) if many else Changed(subjects=[subject])
    return None
