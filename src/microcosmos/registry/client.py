"""The registry over rpc, and a table that follows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc.client import Client

from .interface import WAIT, Changes, Description, Descriptions, Found, Result, Service
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

    async def watch(self, name: str = "", *, domain: str = "") -> AsyncIterator[Result]:
        changes = await self.changes(name, None, domain=domain)
        while True:
            changes = await self.changes(name, changes, domain=domain)
            for result in changes.results:
                yield result

    async def changes(self, name: str, since: Changes | None, *, domain: str = "") -> Changes:
        """The changes since an earlier answer, or everything; waits for one to come."""
        request: dict[str, Any] = {"service": name, "options": {"domain": domain}}
        if since is not None:
            request.update(after=since.sequence, epoch=since.epoch)
        return _changes.decode(await self._call("Watch", request, timeout=WAIT + 10, retry=False))


async def follow(
    registry: RegistryClient,
    table: Table,
    *,
    read: Callable[[], None] = lambda: None,
    restarted: Callable[[], None] = lambda: None,
) -> None:
    """Keep a table as the registry is, for ever; a registry that is away changes nothing.

    Args:
        registry: where the changes come from.
        table: what they are applied to.
        read: called when the whole registry has been read.
        restarted: called when another registry answers than before, so that its callers can
            register again.
    """
    since: Changes | None = None
    while True:
        try:
            changes = await registry.changes("", since)
        except errors.Error as error:
            log.debug("the registry does not answer: %s", error)
            await asyncio.sleep(0.1)
            continue
        if changes.snapshot:
            table.replace(result.service for result in changes.results)
            read()
            if since is not None and since.epoch != changes.epoch:
                restarted()
        else:
            for result in changes.results:
                table.apply(result)
        since = changes
