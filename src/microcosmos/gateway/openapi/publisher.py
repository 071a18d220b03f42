"""Documents made when somebody asks, and kept until the registry or the rules change.

A document shows what who asks may call: all who may call the same get the same one. Each
service's part is kept for itself: of a thousand services, only those that changed are asked
for and made again, one after another, so that calls go on between them.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.base import context, errors
from microcosmos.registry import Table
from microcosmos.registry.client import RegistryClient
from microcosmos.registry.interface import REPLICA, Description
from microcosmos.rpc import Client
from microcosmos.service.records import ACCESS

from . import document, shapes
from .document import Part

T = TypeVar("T")

DOCUMENTS = 32
"""Documents that a gateway keeps at most: of each service, and for each set of rights."""

_CORE = "core"
_PARTS = 4096


class Printed(NamedTuple):
    """A document as it is sent: plain, compressed, and under a tag of its content."""

    body: bytes
    packed: bytes
    etag: str


class _Kind(NamedTuple):
    """Which document: of a service, or of all if it has no name; and for which rights.

    What somebody may call depends on no more than these of an account.
    """

    service: str
    type: str = ""
    namespace: str = ""
    scopes: tuple[str, ...] = ()


def _kind(service: str, account: Account | None) -> _Kind:
    if account is None:
        return _Kind(service)
    return _Kind(service, account.type, account.namespace, account.scopes)


class Publisher:
    """Makes the documents of what a table knows.

    Args:
        client: reaches the registry.
        table: who is alive; its changes make documents old.
        access: who may call what, as do its changes; None lets everybody call everything.
        namespace: whose services the table knows.
    """

    def __init__(
        self,
        client: Client,
        table: Table,
        access: Access | None = None,
        namespace: str = context.DEFAULT_NAMESPACE,
    ) -> None:
        self._registry = RegistryClient(client.own())
        self._table = table
        self._access = access
        self._namespace = namespace
        self._described: dict[str, list[Description]] = {}
        self._parts: dict[tuple[str, frozenset[str]], Part] = {}
        self._printed: OrderedDict[_Kind, Printed] = OrderedDict()
        # How often each service has changed, and with no name how often anything has: what is
        # being made may be old when it is done.
        self._changes: Counter[str] = Counter()
        self._one_at_a_time = asyncio.Lock()
        table.on_change(self._forget)
        if access is not None:
            access.on_change(self._forget_all)

    def _forget(self, service: str) -> None:
        self._changes.update((service, ""))
        self._described.pop(service, None)
        for key in [key for key in self._parts if key[0] == service]:
            del self._parts[key]
        for kind in [kind for kind in self._printed if kind.service in ("", service)]:
            del self._printed[kind]

    def _forget_all(self, _: object) -> None:
        self._changes[""] += 1
        self._printed.clear()

    async def whole(self, account: Account | None = None) -> Printed:
        """The document of all that an account can call; the core's services are its last."""
        return await self._get("", account)

    async def single(self, service: str, account: Account | None = None) -> Printed:
        """The document of what an account can call of one service.

        Raises:
            errors.NotFound: there is none of that name, or nothing of it that it may call.
        """
        return await self._get(service, account)

    async def _get(self, service: str, account: Account | None) -> Printed:
        kind = _kind(service, account)
        if made := self._printed.get(kind):
            self._printed.move_to_end(kind)
            return made
        async with self._one_at_a_time:
            return self._printed.get(kind) or await self._make(kind, account)

    async def _make(self, kind: _Kind, account: Account | None) -> Printed:
        """Print a document; kept if nothing changed since."""
        changes = self._changes[""]
        if kind.service:
            only = await self._part(kind.service, account)
            if only is None:
                raise errors.NotFound("gateway", f"nothing of {kind.service} can be called")
            made = await asyncio.to_thread(printed, document.single, only)
        else:
            made = await asyncio.to_thread(printed, document.whole, await self._all(account))
        if changes == self._changes[""]:
            self._printed[kind] = made
            if len(self._printed) > DOCUMENTS:
                self._printed.popitem(last=False)
        return made

    async def _all(self, account: Account | None) -> list[Part]:
        parts = []
        for name in self._names():
            try:
                part = await self._part(name, account)
            except errors.NotFound:
                continue  # gone meanwhile
            if part is not None:
                parts.append(part)
        return parts

    def _names(self) -> list[str]:
        """Every service by name, those of the core at the end."""
        core = {
            service.name: any(node.metadata.get(REPLICA) == _CORE for node in service.nodes)
            for service in self._table.services()
        }
        return sorted(core, key=lambda name: (core[name], name))

    async def _part(self, name: str, account: Account | None) -> Part | None:
        """What an account may see of a service; None is nothing."""
        versions, hidden = self._seen(await self._versions(name), account)
        if hidden and not any(version.endpoints for version in versions):
            return None
        key = name, frozenset(hidden)
        if made := self._parts.get(key):
            return made
        made = document.part(versions)
        if name in self._described:
            if len(self._parts) >= _PARTS:
                self._parts.clear()
            self._parts[key] = made
        # Making one takes a while, and calls go on between them.
        await asyncio.sleep(0)
        return made

    async def _versions(self, name: str) -> list[Description]:
        if (known := self._described.get(name)) is not None:
            return known
        changes = self._changes[name]
        told = await self._registry.describe(name, domain=self._namespace)
        versions = shapes.completed(told, self._table.endpoint)
        if changes == self._changes[name]:
            self._described[name] = versions
        return versions

    def _seen(
        self, versions: list[Description], account: Account | None
    ) -> tuple[list[Description], set[str]]:
        """Versions of a service without the endpoints that an account may not call, and those."""
        hidden: set[str] = set()
        for version in versions:
            for one in version.endpoints:
                if not self._may(account, version.name, one.name, one.metadata):
                    hidden.add(one.name)
        if not hidden:
            return versions, hidden
        return [
            msgspec.structs.replace(
                version, endpoints=[one for one in version.endpoints if one.name not in hidden]
            )
            for version in versions
        ], hidden

    def _may(
        self, account: Account | None, service: str, endpoint: str, metadata: dict[str, str]
    ) -> bool:
        if self._access is None:
            return True
        asked = metadata.get(ACCESS, "rules")
        try:
            self._access.check(account, self._namespace, service, endpoint, asked)
        except errors.Error:
            return False
        return True


def printed(make: Callable[[T], bytes], of: T) -> Printed:
    """A document, made and ready to be sent."""
    body = make(of)
    packer = zlib.compressobj(level=5, wbits=31)
    packed = packer.compress(body) + packer.flush()
    return Printed(body, packed, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')
