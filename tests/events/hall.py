"""The events service in memory, and clients of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from microcosmos.auth import topics
from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy, Resource, Rule
from microcosmos.base import codec
from microcosmos.base.context import NAMESPACE
from microcosmos.events.client import RemoteLog
from microcosmos.events.interface import Log
from microcosmos.events.memory import MemoryLog
from microcosmos.events.service import EventsService
from microcosmos.registry import Table
from microcosmos.rpc import Call, Client, Endpoint, MemoryNetwork, Server

WHO = {
    "shop": Account(id="shop", type="service", scopes=("service",)),
    "root": Account(id="root", scopes=("admin",)),
    "jane": Account(id="jane", scopes=("readers",)),
    "anna": Account(id="anna", namespace="foo", scopes=("admin",)),
    "foreign": Account(id="shop", type="service", namespace="foo", scopes=("service",)),
}
"""Who calls, by a name in the metadata ``Who``."""


class Hall:
    """A service ``events`` of two namespaces.

    Attributes:
        access: by whose rules it lets in.
        logs: by namespace.
        audited: what was noted.
    """

    def __init__(self, log: Log | None = None, **service: Any) -> None:
        self.access = Access()
        self.logs = {"micro": log or MemoryLog(), "foo": MemoryLog()}
        self.audited: list[tuple[str, str, str]] = []
        self.rule()
        self.server = Server(verifier=self._verify)
        authorise = topics.authorising(self.access)
        hosted = EventsService(self.logs.__getitem__, authorise, audit=self._audit, **service)
        self.server.add(hosted.hosted())
        self.network = MemoryNetwork()
        self.network.join(self.server)
        self.client = Client([self.network], Table({"events": "core"}))

    def rule(self, *rules: Rule) -> None:
        """Decide by other rules from now on."""
        kept = {"micro": [DEFAULT_RULE, *rules], "foo": [DEFAULT_RULE]}
        self.access.follow(Policy(rules=kept))

    def topic_rule(self, topic: str, verb: str, **rule: Any) -> None:
        """Decide by one more rule, about a topic, from now on."""
        self.rule(Rule(id="one", resource=Resource("topic", topic, verb), **rule))

    def _verify(self, call: Call, endpoint: Endpoint) -> Account | None:
        account = WHO.get(call.metadata.get("Who", ""))
        namespace = call.metadata.get(NAMESPACE, "micro")
        self.access.check(account, namespace, call.service, call.endpoint, endpoint.access)
        return account

    async def _audit(self, action: str, subject: str, detail: str) -> None:
        self.audited.append((action, subject, detail))

    async def ask(
        self, who: str, endpoint: str, request: Any = None, namespace: str = "micro"
    ) -> Any:
        """The answer of an endpoint."""
        body = codec.encode(request or {})
        sent = {"Who": who, NAMESPACE: namespace}
        return codec.decode(await self.client.call("events", endpoint, body, metadata=sent))

    def stream(self, who: str, endpoint: str, request: Any = None) -> Any:
        """A stream of an endpoint."""
        sent = {"Who": who}
        return self.client.stream("events", endpoint, codec.encode(request or {}), metadata=sent)

    def of(self, who: str) -> RemoteLog:
        """The log as somebody has it."""
        return RemoteLog(As(self.client, {"Who": who, NAMESPACE: WHO[who].namespace}))


class As(Client):
    """Calls with metadata beside that of the call."""

    def __init__(self, client: Client, metadata: dict[str, str]) -> None:
        self._client = client
        self._metadata = metadata

    async def call(self, *call: Any, **options: Any) -> bytes:
        return await self._client.call(*call, metadata=self._metadata, **options)

    @contextlib.asynccontextmanager
    async def stream(self, *call: Any, **options: Any) -> AsyncIterator[Any]:
        async with self._client.stream(*call, metadata=self._metadata, **options) as stream:
            yield stream
