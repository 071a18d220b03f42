"""The registry over rpc, and a table that follows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc.client import Client

from .interface import Changes, Description, Descriptions, Found, Result, Service
from .table import Table

log = logging.getLogger("microcosmos.registry")

_found = msgspec.json.Decoder(Found, strict=False)
_changes = msgspec.json.Decoder(Changes, strict=False)


class RegistryClient:
    """See `interface.Registry`.

    Args:
        client: carries the calls.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(self, method: str, request: Any, **options: Any) -> bytes:
        body = codec.encode(request)
        return await self._client.call("registry", f"Registry.{method}", body, **options)

    async def register(self, service: Service) -> None:
        await self._call("Register", service)

    async def deregister(self, service: Service) -> None:
        await self._call("Deregister", service)

    async def get_service(self, name: str, *, domain: str = "") -> list[Service]:
        request = {"service": name, "options": {"domain": domain}}
        return _found.decode(await self._call("GetService", request)).services

    async def list_services(self, *, domain: str = "") -> list[Service]:
        answer = await self._call("ListServices", {"options": {"domain": domain}})
        return _found.decode(answer).services

    async def describe(self, name: str = "", *, domain: str = "") -> list[Description]:
        answer = await self._call("Describe", {"service": name, "options": {"domain": domain}})
        return msgspec.json.decode(answer, type=Descriptions).services

    async def watch(self, name: str = "", *, domain: str = "") -> AsyncGenerator[Result, None]:
        async for changes in self.follow(name, domain=domain):
            if not changes.snapshot:
                for result in changes.results:
                    yield result

    async def follow(
        self, name: str = "", since: Changes | None = None, *, domain: str = ""
    ) -> AsyncGenerator[Changes, None]:
        """Everything, or the changes since an earlier message, and then each change.

        Raises:
            errors.Error: the registry has gone.
        """
        request: dict[str, Any] = {"service": name, "options": {"domain": domain}}
        if since is not None:
            request.update(after=since.sequence, epoch=since.epoch)
        body = codec.encode(request)
        async with self._client.stream("registry", "Registry.Follow", body) as stream:
            async for message in stream:
                yield _changes.decode(message)


async def follow(
    registry: RegistryClient,
    table: Table,
    *,
    domain: str = "",
    read: Callable[[], None] = lambda: None,
    restarted: Callable[[], None] = lambda: None,
) -> None:
    """Keep a table as the registry is, for ever; a registry that is away changes nothing.

    Args:
        registry: where the changes come from.
        table: what they are applied to.
        domain: the namespace that is followed.
        read: called when the whole registry has been read.
        restarted: called when another registry answers than before, so that its callers can
            register again.
    """
    since: Changes | None = None
    while True:
        try:
            async with aclosing(registry.follow("", since, domain=domain)) as news:
                async for changes in news:
                    _apply(changes, table)
                    if changes.snapshot:
                        read()
                        if since is not None and since.epoch != changes.epoch:
                            restarted()
                    since = changes
        except errors.Error as error:
            log.debug("the registry does not answer: %s", error)
        await asyncio.sleep(0.1)


def _apply(changes: Changes, table: Table) -> None:
    if changes.snapshot:
        table.replace(result.service for result in changes.results)
    for result in changes.results if not changes.snapshot else ():
        table.apply(result)
