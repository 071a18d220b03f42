"""Namespaces as the proxy sees them: what it answers for each from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Policy
from microcosmos.base import context, errors
from microcosmos.registry import Table
from microcosmos.rpc import Client

from .calls import Calls
from .debug import Ask, Debug
from .descriptors import Descriptors, Schemas
from .numbers import Numbers
from .reflection import Reflection
from .standing import Standing
from .visitors import Visitors


class World(NamedTuple):
    """A namespace.

    Attributes:
        client: carries calls to its services.
        table: its services, with the shapes of their endpoints.
        numbers: gives fields their numbers; without it they last as long as the proxy.
        schemas: gives the schemas of a service's endpoints, from memory.
        stats: gives what replicas have counted.
    """

    client: Client
    table: Table
    numbers: Numbers | None = None
    schemas: Schemas | None = None
    stats: Ask | None = None


Open = Callable[[str], Awaitable[World]]
"""Gives a namespace other than `micro`, once for as long as it is there."""


class Answering:
    """What answers in one namespace."""

    def __init__(self, world: World, standing: Standing, visitors: Visitors) -> None:
        self.descriptors = Descriptors(world.table, world.numbers, world.schemas)
        self.reflection = Reflection(self.descriptors, standing)
        # What the proxy passes on is nobody's but its caller's.
        self.client = client = world.client.showing(None)
        debug = Debug(world.table, world.stats)
        self.calls = Calls(client, world.table, self.descriptors, standing, debug, visitors)


class Worlds:
    """What answers, by namespace.

    Args:
        default: what answers for the namespace `micro`.
        opened: gives the others; without it there are none.
        make: makes what answers of a namespace.
        access: tells which are gone.
    """

    def __init__(
        self,
        default: Answering,
        opened: Open | None,
        make: Callable[[World], Answering],
        access: Access | None,
    ) -> None:
        self._default = default
        self._opened = opened
        self._make = make
        self._others: dict[str, Answering] = {}
        self._opening = asyncio.Lock()
        if access is not None:
            access.on_change(self._forget_deleted)

    async def get(self, namespace: str) -> Answering:
        """What answers for a namespace.

        Raises:
            errors.NotFound: there is none of that name here.
            errors.Error: it cannot be opened.
        """
        if namespace == context.DEFAULT_NAMESPACE:
            return self._default
        if (known := self._others.get(namespace)) is not None:
            return known
        if self._opened is None:
            raise errors.NotFound("proxy", f"the namespace {namespace} cannot be called here")
        async with self._opening:
            if namespace not in self._others:
                self._others[namespace] = self._make(await self._opened(namespace))
        return self._others[namespace]

    def _forget_deleted(self, policy: Policy) -> None:
        for namespace in self._others.keys() - policy.rules.keys():
            del self._others[namespace]
