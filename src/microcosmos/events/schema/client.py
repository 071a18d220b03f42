"""The schema registry over rpc."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from microcosmos.base import codec
from microcosmos.rpc import Client

from . import wire
from .contracts import CachedContracts
from .interface import Declaration, SchemaVersion, subject_of
from .registry import Changed

_changed = msgspec.json.Decoder(Changed)


class RemoteContracts(CachedContracts):
    """What publishers and consumers of a service check events by; see `Contracts`.

    Args:
        client: carries the calls; they are the process's own, whomever it is serving.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(RemoteSource(client.own()))


class RemoteSource:
    """The schemas of a namespace, as the core tells them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def newest(self, topic: str) -> wire.NewestResponse:
        """The newest schema of a topic."""
        found: wire.NewestResponse = await self._ask(
            "Newest", wire.NewestRequest(topic), wire.NewestResponse
        )
        return found

    async def register(self, topic: str, schema: str, name: str) -> int:
        """The id of a type's schema, which registers itself if it may."""
        request = wire.RegisterRequest(subject_of(topic), schema, auto=True, name=name)
        found: SchemaVersion = await self._ask("Register", request, SchemaVersion)
        return found.id

    async def schema(self, id: int) -> str:
        """The text of a schema."""
        found: wire.ReadResponse = await self._ask(
            "Read", wire.ReadRequest(id=id), wire.ReadResponse
        )
        return found.version.schema

    async def declare(self, declaration: Declaration) -> None:
        """What a service says when it starts."""
        await self._ask("Declare", wire.DeclareRequest(declaration), wire.DeclareResponse)

    async def follow(self) -> AsyncGenerator[Changed, None]:
        """What changes."""
        body = codec.encode(wire.FollowRequest())
        async with self._client.stream(wire.NAME, "Schemas.Follow", body) as stream:
            async for message in stream:
                yield _changed.decode(message)

    async def _ask(self, method: str, request: Any, kind: Any) -> Any:
        answer = await self._client.call(wire.NAME, f"Schemas.{method}", codec.encode(request))
        return msgspec.json.decode(answer, type=kind)
