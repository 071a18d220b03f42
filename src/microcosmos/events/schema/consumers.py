"""Who said that it consumes what."""

from __future__ import annotations

from collections.abc import Sequence

from microcosmos.base import codec, errors, topics
from microcosmos.store import Store

from .interface import Consumer
from .kept import KeptConsumers, Keys, consumers_from


class Consumers:
    """The consumers of a namespace, by the services that they are of.

    Args:
        store: where they are kept.
        keys: of the namespace.
    """

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def of(self, topic: str = "") -> list[Consumer]:
        """Those of a topic, by its name or by a pattern; with no topic all."""
        records = await self._store.read(prefix=self._keys.consumers)
        return [
            one
            for record in records
            for one in consumers_from(record.value).consumers
            if not topic or topics.matches(one.topic, topic)
        ]

    async def keep(self, service: str, said: Sequence[Consumer]) -> None:
        """Take note of what a service consumes, in place of what it said before."""
        key = self._keys.consumer(service)
        if said:
            await self._store.write(key, codec.encode(KeptConsumers(list(said))))
        else:
            await self._store.delete(key)

    async def forget(self, service: str, topic: str) -> list[Consumer]:
        """Those of a service that do not count any more: of a topic, or with no topic all."""
        try:
            record = await self._store.read(self._keys.consumer(service))
        except errors.NotFound:
            return []
        said = consumers_from(record.value).consumers
        rest = [one for one in said if topic and one.topic != topic]
        await self.keep(service, rest)
        return [one for one in said if one not in rest]
