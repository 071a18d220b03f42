"""Contracts in the process of the registry."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from microcosmos.base import context, errors
from microcosmos.events.interface import Draft, Event

from . import interface as ids
from .contracts import CachedContracts
from .interface import Declaration, SchemaVersion, subject_of
from .registry import Changed, Registry
from .wire import NewestResponse


class LocalContracts(CachedContracts):
    """What publishers and consumers check events by, beside the registry itself; see `Contracts`.

    Args:
        registry: of all namespaces.
        namespace: whose events.
    """

    def __init__(self, registry: Registry, namespace: str) -> None:
        source = LocalSource(registry, namespace)
        super().__init__(source)
        self._local = source

    async def checked(self, draft: Draft) -> Draft:
        """An event that somebody else wants published, with the id of its schema.

        Raises:
            errors.BadRequest: it does not fit the schema that it names, which has to be one of its
                topic's; or names none and does not fit the newest of its topic.
        """
        if not draft.schema:
            _, id = await self.writing(draft.topic, draft.payload)
            return msgspec.structs.replace(draft, schema=id) if id else draft
        if not await self._local.has(draft.topic, draft.schema):
            detail = f"{draft.topic} has no version with schema {draft.schema}"
            raise errors.BadRequest("events", detail)
        named = Event("", draft.topic, payload=draft.payload, schema=draft.schema)
        await self.reading(named)
        return draft


class LocalSource:
    """The schemas of a namespace in the registry of this process."""

    def __init__(self, registry: Registry, namespace: str) -> None:
        self._registry = registry
        self._namespace = namespace
        self._catalogue = registry.of(namespace)

    async def newest(self, topic: str) -> NewestResponse:
        """The newest schema of a topic."""
        try:
            found = await self._catalogue.version(subject_of(topic))
        except errors.NotFound:
            return NewestResponse()
        return NewestResponse(found.id, found.schema, found.version)

    async def register(self, topic: str, schema: str, name: str) -> int:
        """The id of a type's schema, which registers itself if it may."""
        found = await self.register_type(subject_of(topic), schema, name)
        return found.id

    async def register_type(self, subject: str, schema: str, name: str) -> SchemaVersion:
        """A version with a type's schema, which registers itself if it may.

        Raises:
            errors.Conflict: it may not, or is not compatible.
        """
        settings = await self._catalogue.effective(subject)
        if settings.auto is not False:
            return await self._catalogue.register(subject, schema, author=author())
        try:
            return await self._catalogue.lookup(subject, schema)
        except errors.NotFound:
            topic = ids.topic_of(subject) or subject
            raise errors.Conflict(
                ids.UNREGISTERED,
                f"{topic}: {name or 'this type'} is not registered, and types may not register "
                f"themselves here: `micro events schema register {topic} FILE`",
            ) from None

    async def schema(self, id: int) -> str:
        """The text of a schema."""
        return await self._catalogue.schema(id)

    async def has(self, topic: str, id: int) -> bool:
        """Whether a schema is one of a topic's."""
        return await self._catalogue.has(subject_of(topic), id)

    async def declare(self, declaration: Declaration) -> None:
        """What a service says when it starts."""
        await self._catalogue.declare(declaration, author=author())

    def follow(self) -> AsyncGenerator[Changed, None]:
        """What changes."""
        return self._registry.follow(self._namespace)


def author() -> str:
    """The account whose call is being handled, empty when there is none."""
    account: Any = context.current().account
    return "" if account is None else str(account.id)
