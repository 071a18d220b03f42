"""Documents made when somebody asks, and kept until the registry changes.

Each service's part is kept for itself: of a thousand services, only those that changed are asked
for and made again, one after another, so that calls go on between them.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from microcosmos.base import errors
from microcosmos.registry import Table
from microcosmos.registry.client import RegistryClient
from microcosmos.registry.interface import REPLICA
from microcosmos.rpc import Client

from . import document, shapes
from .document import Part

T = TypeVar("T")

_CORE = "core"


class Printed(NamedTuple):
    """A document as it is sent: plain, compressed, and under a tag of its content."""

    body: bytes
    packed: bytes
    etag: str


class Publisher:
    """Makes the documents of what a table knows.

    Args:
        client: reaches the registry.
        table: who is alive; its changes make documents old.
    """

    def __init__(self, client: Client, table: Table) -> None:
        self._registry = RegistryClient(client)
        self._table = table
        self._parts: dict[str, Part] = {}
        self._printed: dict[str, Printed] = {}
        self._changed: set[str] = set()
        self._one_at_a_time = asyncio.Lock()
        table.on_change(self._forget)

    def _forget(self, service: str) -> None:
        self._changed.add(service)
        self._parts.pop(service, None)
        self._printed.pop(service, None)
        self._printed.pop("", None)

    async def whole(self) -> Printed:
        """The document of all that can be called; the core's own services are its last."""
        return self._printed.get("") or await self._make("")

    async def single(self, service: str) -> Printed:
        """The document of one service.

        Raises:
            errors.NotFound: there is none of that name.
        """
        return self._printed.get(service) or await self._make(service)

    async def _make(self, service: str) -> Printed:
        """Print a document, of all services if no name is given; kept if nothing changed since."""
        async with self._one_at_a_time:
            if made := self._printed.get(service):
                return made
            self._changed.clear()
            if service:
                made = await asyncio.to_thread(_printed, document.single, await self._part(service))
            else:
                made = await asyncio.to_thread(_printed, document.whole, await self._all())
            if not (service in self._changed if service else self._changed):
                self._printed[service] = made
            return made

    async def _all(self) -> list[Part]:
        parts = []
        for name in self._names():
            try:
                parts.append(await self._part(name))
            except errors.NotFound:
                continue  # gone meanwhile
        return parts

    def _names(self) -> list[str]:
        """Every service by name, those of the core at the end."""
        core = {
            service.name: any(node.metadata.get(REPLICA) == _CORE for node in service.nodes)
            for service in self._table.services()
        }
        return sorted(core, key=lambda name: (core[name], name))

    async def _part(self, name: str) -> Part:
        if made := self._parts.get(name):
            return made
        versions = await self._registry.describe(name)
        made = document.part(shapes.completed(versions, self._table.endpoint))
        if name not in self._changed:
            self._parts[name] = made
        return made


def _printed(make: Callable[[T], bytes], of: T) -> Printed:
    body = make(of)
    packer = zlib.compressobj(level=5, wbits=31)
    packed = packer.compress(body) + packer.flush()
    return Printed(body, packed, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')
