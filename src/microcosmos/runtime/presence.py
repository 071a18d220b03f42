"""Which replicas of a service answer, as the registry tells."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors
from microcosmos.registry.interface import REPLICA, Node, OwnRegistry, Service

# Looking through every service is for those that register under another name than they run by.
_LOOK_EVERYWHERE = 5


class Presence:
    """The replicas of one service in the registry.

    A program that uses our package names its process in its node's metadata. One that does not is
    recognised by a node of the service that was not there when it was started.

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
        self._looks = 0

    async def expect(self) -> None:
        """A process is about to be started: foreign nodes that are there now are not its own."""
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
        return False

    async def gone(self, process: str) -> None:
        """A process has ended: its nodes are removed at once, and expected back."""
        for service, node in await self._nodes(everywhere=True):
            replica = node.metadata.get(REPLICA) or self._foreign.get(node.id)
            if replica == process:
                await self._registry.lose(msgspec.structs.replace(service, nodes=[node]))
        self._foreign = {id: owner for id, owner in self._foreign.items() if owner != process}

    async def ended(self) -> None:
        """The service was deleted: it is expected no longer."""
        await self._registry.forget(self._name)

    async def _nodes(self, *, everywhere: bool = False) -> list[tuple[Service, Node]]:
        try:
            if everywhere:
                services = await self._registry.list_services(domain=self._namespace)
            else:
                services = await self._registry.get_service(self._name, domain=self._namespace)
        except errors.NotFound:
            return []
        return [(service, node) for service in services for node in service.nodes]
