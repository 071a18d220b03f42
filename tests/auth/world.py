"""An authority over a real store, served in memory with its own policy as the verifier."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import argon2

from microcosmos.auth.authority import Authority
from microcosmos.auth.interface import Account, Policy
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.auth.service import AuthService
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.rpc import Client, MemoryNetwork, Server
from microcosmos.store import Store, open_store


def quick() -> Passwords:
    """Real hashes, which cost next to nothing."""
    return Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class World:
    """What tests hold: an authority, and a client of its service.

    Args:
        authority: entered.
        keys: those that it signs by.
    """

    def __init__(self, authority: Authority, keys: TokenKeys) -> None:
        self.authority = authority
        self.keys = keys
        self.server = Server(verifier=authority.access)
        self.service = AuthService(authority)
        self.hosted = self.service.hosted()
        self.server.add(self.hosted)
        self.network = MemoryNetwork()
        self.network.join(self.server)
        self.client = Client([self.network])

    async def ask(self, endpoint: str, shown: str = "", body: Any = None, /, **fields: Any) -> Any:
        """Call an endpoint; ``shown`` is an access token, ``at`` and ``origin`` metadata."""
        metadata = {"Authorization": f"Bearer {shown}"} if shown else {}
        for field, name in (("at", "Micro-Namespace"), ("origin", "Micro-Client-Address")):
            if field in fields:
                metadata[name] = fields.pop(field)
        request = json.dumps(fields if body is None else body).encode()
        return json.loads(
            await self.client.call("auth", endpoint, request, metadata=metadata, retry=False)
        )

    async def login(self, id: str = "admin", secret: str = "micro", **fields: Any) -> str:
        """An access token of an account."""
        answer = await self.ask("Auth.Token", id=id, secret=secret, **fields)
        return str(answer["token"]["access_token"])

    async def session(self, id: str = "admin", secret: str = "micro", **fields: Any) -> Any:
        """All that a login gives."""
        return (await self.ask("Auth.Token", id=id, secret=secret, **fields))["token"]

    async def make(self, id: str, *scopes: str, namespace: str = "micro", **about: Any) -> str:
        """An account with the password ``password of ID``; its access token."""
        secret = f"password of {id}"
        account = Account(id=id, namespace=namespace, scopes=scopes, name=id, **about)
        if namespace not in self.authority.namespaces():
            await self.authority.create_namespace(namespace)
        await self.authority.people.create(account, secret)
        return await self.login(id, secret, options={"namespace": namespace})


@contextlib.asynccontextmanager
async def world(
    store: Store | str = "memory://",
    *,
    keys: TokenKeys | None = None,
    clock: Clock = SYSTEM,
    admin_password: str = "",
) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(store, str):
            store = await stack.enter_async_context(open_store(store, clock=clock))
        keys = keys or TokenKeys(clock=clock)
        authority = Authority(
            store, keys, clock=clock, passwords=quick(), admin_password=admin_password
        )
        yield World(await stack.enter_async_context(authority), keys)


async def until(policies: Callable[[], Policy | None], good: Callable[[Policy], bool]) -> None:
    """Wait until a policy is as it should be."""
    async with asyncio.timeout(60):
        while (policy := policies()) is None or not good(policy):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
