"""Configs on stores in memory, and the service on a platform in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from microcosmos.base import context
from microcosmos.base.clock import ManualClock
from microcosmos.config.config import Config, open_config
from microcosmos.config.keys import Keys
from microcosmos.config.service import ConfigService
from microcosmos.rpc import Call, Client, Endpoint, MemoryNetwork, Server
from microcosmos.store import open_store


class Account(msgspec.Struct, frozen=True):
    """Somebody who calls, as the verifier of a process says."""

    id: str
    type: str = "service"
    namespace: str = "micro"
    scopes: tuple[str, ...] = ("service",)

    @property
    def everywhere(self) -> bool:
        return self.type == "platform" or (self.namespace == "micro" and "admin" in self.scopes)

    def enters(self, namespace: str) -> bool:
        return self.namespace == namespace or self.everywhere

    def administers(self, namespace: str) -> bool:
        return self.type == "platform" or ("admin" in self.scopes and self.enters(namespace))


ADMIN = Account("jane", "user", scopes=("admin",))


class Platform:
    """A config with its service, and clients of chosen accounts."""

    def __init__(self, config: Config, server: Server, network: MemoryNetwork) -> None:
        self.config = config
        self.accounts: dict[str, Account | None] = {"": None}
        self.server = server
        self._network = network

    def client(self, account: Account | None = None, namespace: str = "") -> Client:
        """A client whose calls are of an account; None is anonymous."""
        name = f"{account.namespace}/{account.id}" if account else ""
        self.accounts[name] = account
        network = _Signed(self._network, name, namespace)
        return Client([network])  # type: ignore[list-item]

    def verify(self, call: Call, endpoint: Endpoint) -> Any:
        return self.accounts[call.metadata.get("Test-Account", "")]


class _Signed:
    """A network that says who calls."""

    def __init__(self, network: MemoryNetwork, name: str, namespace: str) -> None:
        self._network = network
        self._about = {"Test-Account": name}
        if namespace:
            self._about[context.NAMESPACE] = namespace

    async def call(self, call: Call) -> bytes:
        call.metadata.update(self._about)
        return await self._network.call(call)

    async def open(self, call: Call) -> Any:
        call.metadata.update(self._about)
        return await self._network.open(call)


@contextlib.asynccontextmanager
async def opened(keys: Keys | None = None, *, trusting: bool = False) -> AsyncIterator[Platform]:
    """A platform in memory with config, and nothing else."""
    async with open_store("memory://") as store, open_config(store, keys) as config:
        network, server = MemoryNetwork(), Server()
        platform = Platform(config, server, network)
        server._verifier = platform.verify
        server.add(ConfigService(config, trusting=trusting).hosted())
        network.join(server)
        yield platform
        network.leave(server)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
