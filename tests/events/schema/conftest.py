"""Registries on stores in memory, and the service on a platform in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from microcosmos.base import context, errors
from microcosmos.base.clock import ManualClock
from microcosmos.events.schema.client import RemoteContracts
from microcosmos.events.schema.registry import Registry
from microcosmos.events.schema.service import SchemasService
from microcosmos.rpc import Call, Client, Endpoint, Hosted, MemoryNetwork, Server
from microcosmos.store import open_store


class Account(msgspec.Struct, frozen=True):
    """Somebody who calls, as the verifier of a process says."""

    id: str
    type: str = "service"
    namespace: str = "micro"
    scopes: tuple[str, ...] = ("service",)

    def enters(self, namespace: str) -> bool:
        return self.namespace == namespace

    def administers(self, namespace: str) -> bool:
        return "admin" in self.scopes and self.enters(namespace)


ADMIN = Account("jane", "user", scopes=("admin",))
SHOP = Account("shop")
BILLING = Account("billing")
GUEST = Account("bob", "user", scopes=())


class Platform:
    """A registry with its service, and clients of chosen accounts."""

    def __init__(self, registry: Registry, network: MemoryNetwork) -> None:
        self.registry = registry
        self.accounts: dict[str, Account] = {}
        self.notes: list[tuple[str, str, str]] = []
        self.away = False
        self._network = network

    def client(self, account: Account) -> Client:
        self.accounts[account.id] = account
        return Client([_Signed(self, self._network, account)])  # type: ignore[list-item]

    def contracts(self, account: Account = SHOP) -> RemoteContracts:
        return RemoteContracts(self.client(account))

    async def ask(self, method: str, account: Account = ADMIN, **request: Any) -> Any:
        body = msgspec.json.encode(request)
        answer = await self.client(account).call("events", f"Schemas.{method}", body)
        return msgspec.json.decode(answer)

    def verify(self, call: Call, endpoint: Endpoint) -> Any:
        return self.accounts[call.metadata["Test-Account"]]

    async def audit(self, action: str, subject: str, detail: str) -> None:
        self.notes.append((action, subject, detail))


class _Signed:
    """A network that says who calls."""

    def __init__(self, platform: Platform, network: MemoryNetwork, account: Account) -> None:
        self._platform = platform
        self._network = network
        self._about = {"Test-Account": account.id, context.NAMESPACE: account.namespace}

    async def call(self, call: Call) -> bytes:
        if self._platform.away:
            raise errors.Unavailable("events", "the core is away")
        call.metadata.update(self._about)
        return await self._network.call(call)

    async def open(self, call: Call) -> Any:
        if self._platform.away:
            raise errors.Unavailable("events", "the core is away")
        call.metadata.update(self._about)
        return await self._network.open(call)


def authorise(topic: str, verb: str) -> None:
    account: Any = context.current().account
    if account.administers("micro") or (account.type == "service" and verb != "admin"):
        return
    raise errors.Forbidden("topic", f"{account.id} may not {verb} {topic}")


@contextlib.asynccontextmanager
async def registered() -> AsyncIterator[Registry]:
    """A registry on a store in memory, at a time that stands."""
    async with open_store("memory://") as store:
        registry = Registry(store, clock=ManualClock())
        yield registry
        registry.close()


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Platform]:
    """A platform with a registry."""
    async with registered() as registry:
        network = MemoryNetwork()
        platform = Platform(registry, network)
        server = Server(verifier=platform.verify)
        service = SchemasService(registry, authorise, audit=platform.audit)
        server.add(Hosted("events", service.endpoints()))
        network.join(server)
        yield platform
        registry.close()
        network.leave(server)
