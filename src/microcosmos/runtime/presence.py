"""Which replicas of a service answer, as the registry tells."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec

from microcosmos.base import errors
from microcosmos.registry.interface import REPLICA, Node, OwnRegistry, Service

# Looking through every service is for those that register under another name than they run by.
_LOOK_EVERYWHERE = 5

# A program that uses our package has told the registry by itself before these looks.
_ASK_FROM = 4
_ASK_EVERYONE = frozenset((12, 24, 48, 96))


class Presence:
    """The replicas of one service in the registry.

    A program that uses our package names its process in its node's metadata. For one that does not
    the engine tells whose credentials its node has. Where it does not tell, a program is recognised
    by a node of the service that was not there when it was started.

    Args:
        registry: who is alive.
        name: of the service.
        namespace: where it is called.
    """

    def __init__(self, registry: OwnRegistry, name: str, namespace: str) -> None:
        self._registry = registry
        self._name = name
        self._namespace = namespace
        self._foreign: dict[str, str] = {}
        self._others: set[str] = set()
        self._looks = 0
        self._search: asyncio.Task[None] | None = None

    async def expect(self) -> None:
        """A process is about to be started: foreign nodes that are there now are not its own."""
        self._looks = 0
        await self._registry.expect(self._name, domain=self._namespace)
        for _, node in await self._nodes():
            if REPLICA not in node.metadata:
                self._foreign.setdefault(node.id, "")

    async def answers(self, process: str) -> bool:
        """Whether a process that has been started is registered."""
        self._looks += 1
        everywhere = self._looks % _LOOK_EVERYWHERE == 0
        found = await self._nodes(everywhere=everywhere)
        if any(node.metadata.get(REPLICA) == process for _, node in found):
            return True
        for service, node in found:
            strange = REPLICA not in node.metadata and node.id not in self._foreign
            if strange and service.name == self._name:
                self._foreign[node.id] = process
                return True
        if self._looks >= _ASK_FROM:
            self._ask("" if self._looks in _ASK_EVERYONE else self._name)
        return False

    async def other_names(self, processes: Collection[str]) -> list[str]:
        """The names that processes answer under, if the service's own is not among them."""
        found = {
            service.name
            for service, node in await self._nodes(everywhere=True)
            if node.metadata.get(REPLICA) in processes or self._foreign.get(node.id) in processes
        }
        return [] if self._name in found else sorted(found)

    def _ask(self, name: str) -> None:
        """Look on NATS; not waited for, as whoever registers by itself need not wait either."""
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._registry.look(name, domain=self._namespace))

    async def gone(self, process: str) -> None:
        """A process has ended: its nodes are removed at once, and expected back."""
        for service, node in await self._nodes(everywhere=True):
            replica = node.metadata.get(REPLICA) or self._foreign.get(node.id)
            if replica == process:
                self._others.add(service.name)
                await self._registry.lose(msgspec.structs.replace(service, nodes=[node]))
        self._foreign = {id: owner for id, owner in self._foreign.items() if owner != process}

    async def ended(self) -> None:
        """The service was deleted: it is expected no longer."""
        for name in {self._name, *self._others}:
            await self._registry.forget(name, domain=self._namespace)

    async def _nodes(self, *, everywhere: bool = False) -> list[tuple[Service, Node]]:
        try:
            if everywhere:
                services = await self._registry.list_services(domain=self._namespace)
            else:
                services = await self._registry.get_service(self._name, domain=self._namespace)
        except errors.NotFound:
            return []
        return [(service, node) for service in services for node in service.nodes]
