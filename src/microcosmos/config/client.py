"""Config over rpc."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from . import wire
from .values import Value, encoded
from .wire import Changed, ShownRevision


class ConfigClient:
    """The config of a namespace; every method is a call.

    Args:
        client: carries the calls.
        namespace: whose; empty is the one that calls are made in.
    """

    def __init__(self, client: Client, namespace: str = "") -> None:
        self._client = client
        self._namespace = namespace

    async def get(self, path: str = "", *, secret: bool = False) -> Value:
        """What stands at a path, or a value of nothing.

        Args:
            path: which leaf or tree; an empty one is the whole document.
            secret: give secrets in the clear, not masked.

        Raises:
            errors.Forbidden: there are secrets that this account may not read.
        """
        request = {"path": path, "options": {"secret": secret}}
        try:
            answer = await self._ask("Get", request, wire.GetResponse)
        except errors.NotFound as error:
            if error.id != wire.NAME:
                raise
            return Value(path)
        return Value(path, codec.decode(answer.value.data), secret=secret)

    async def set(self, path: str, value: Any, *, secret: bool = False) -> int:
        """Put a value at a path: a map merges with the one there, anything else replaces.

        Args:
            path: where.
            value: anything that JSON carries, structs included.
            secret: encrypt each leaf of it; what replaces a secret is encrypted anyway.

        Returns:
            The number of the document's revision.

        Raises:
            errors.BadRequest: a path or a value that cannot be.
            errors.Forbidden: this account may not.
        """
        value = {"data": encoded(value).decode(), "format": wire.FORMAT}
        request = {"path": path, "value": value, "options": {"secret": secret}}
        revision: int = (await self._ask("Set", request, wire.SetResponse)).revision
        return revision

    async def delete(self, path: str) -> int:
        """Remove the leaf or the tree at a path.

        Returns:
            The number of the document's revision.

        Raises:
            errors.NotFound: nothing is there.
            errors.Forbidden: this account may not.
        """
        revision: int = (await self._ask("Delete", {"path": path}, wire.DeleteResponse)).revision
        return revision

    async def watch(self, path: str = "", *, secret: bool = False) -> AsyncGenerator[Changed, None]:
        """The changes at and below a path, from now on, until this end leaves.

        Raises:
            errors.Error: the platform has gone.
        """
        request = {"path": path, "options": {"secret": secret}, "namespace": self._namespace}
        body = codec.encode(request)
        async with self._client.stream(wire.NAME, "Config.Watch", body) as stream:
            async for message in stream:
                yield msgspec.json.decode(message, type=Changed)

    async def history(
        self, path: str = "", *, limit: int = 20, before: int = 0
    ) -> list[ShownRevision]:
        """What was changed at, below or above a path, the newest first.

        Args:
            path: where; an empty one is everywhere.
            limit: at most so many.
            before: only revisions with a smaller number; 0 is all.
        """
        request = {"path": path, "limit": limit, "before": before}
        found: list[ShownRevision] = (
            await self._ask("History", request, wire.HistoryResponse)
        ).revisions
        return found

    async def rollback(self, revision: int) -> int:
        """Make the document what it was after a revision; the number of the new one."""
        request = {"revision": revision}
        now: int = (await self._ask("Rollback", request, wire.SetResponse)).revision
        return now

    async def rotate_key(self) -> int:
        """Encrypt the secrets of all namespaces with a new key; how many there are."""
        body = await self._client.call(wire.NAME, "Config.RotateKey", timeout=wire.ROTATION)
        return msgspec.json.decode(body, type=wire.RotateResponse).secrets

    async def _ask(self, method: str, request: dict[str, Any], kind: Any) -> Any:
        body = codec.encode({**request, "namespace": self._namespace})
        answer = await self._client.call(wire.NAME, f"Config.{method}", body)
        return msgspec.json.decode(answer, type=kind)
