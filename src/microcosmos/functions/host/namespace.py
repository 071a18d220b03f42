"""Namespace: where functions live, with all that makes them services and runs them by events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from microcosmos.base import errors
from microcosmos.events.client import RemoteLog
from microcosmos.events.interface import GroupSpec
from microcosmos.functions.interface import Live
from microcosmos.registry.interface import HOST, LANE
from microcosmos.rpc import Client
from microcosmos.service.live import LivePlatform
from microcosmos.store import Store
from microcosmos.store.client import RemoteBackend, RpcCaller, ServiceStore

from .door import NamespaceDoor
from .ears import Ears
from .passes import Passes
from .presence import Presence
from .running import Runner
from .triggers import Tell, Triggers

_TABLES = "functions"

Known = Callable[[str], Live | None]
"""Gives a function of the namespace."""


class FunctionsOf:
    """The functions of a namespace, as services and as consumers. Made by `open_namespace`.

    Attributes:
        client: calls in the namespace.
        door: answers calls to them.
        rest: returns when nothing runs them any more: they are no services, and have no triggers.
    """

    def __init__(
        self,
        client: Client,
        door: NamespaceDoor,
        presence: Presence,
        ears: Ears | None,
        triggers: Triggers,
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        self.client = client
        self.door = door
        self._presence = presence
        self._ears = ears
        self._triggers = triggers
        self.rest = rest

    def follow(self, name: str, live: Live | None) -> None:
        """A function has changed, is new, or is no more."""
        there = live is not None
        self._presence.show(name, there=there)
        if self._ears is not None:
            self._ears.listen(name, hear=there)
        self._triggers.follow(name, live)

    async def settled(self) -> None:
        """Wait until all that was followed is so."""
        await self._presence.settled()
        if self._ears is not None:
            await self._ears.settled()
        await self._triggers.settled()

    async def tidy(self, known: Known) -> None:
        """Remove what is left of functions that went while nobody was here."""
        await self._triggers.tidy(known)


@contextlib.asynccontextmanager
async def open_namespace(
    platform: LivePlatform,
    runner: Runner,
    passes: Passes,
    *,
    node: str,
    door: NamespaceDoor,
    tell: Tell,
) -> AsyncIterator[FunctionsOf]:
    """Have a namespace's functions be services, and be run by events, until the block ends.

    Args:
        platform: joined there.
        runner: runs functions.
        passes: their tokens.
        node: the id of this host, the same after it was started anew.
        door: answers calls to them.
        tell: writes into their logs.
    """
    there = platform.membership
    about = {
        LANE: str(there.home.functions_lane),
        HOST: there.host,
        "protocol": "nats",
        "server": "rpc",
    }
    nc = platform.nc

    async def admit(name: str, spec: GroupSpec) -> None:
        header = await passes.header(there.namespace, name)
        with contextlib.suppress(errors.Unimplemented):
            # By its own account: rules say what it may consume. Without an engine, that is all.
            await RemoteLog(platform.client.showing(lambda: header)).join(spec)

    async with contextlib.AsyncExitStack() as stack:
        presence = Presence(
            platform.registry, there.namespace, node, about, restarted=platform.restarted
        )
        ears = Ears(nc, door, node) if nc is not None else None
        if ears is not None:
            await stack.enter_async_context(ears)
        await stack.enter_async_context(presence)
        # The last to begin and the first to end: it only makes work.
        triggers = await stack.enter_async_context(
            Triggers(
                there.namespace,
                platform.events,
                runner,
                admit,
                contracts=platform.contracts,
                client=platform.client,
                tell=tell,
                kept=_kept(platform),
            )
        )
        yield FunctionsOf(platform.client, door, presence, ears, triggers, stack.aclose)


def _kept(platform: LivePlatform) -> Store:
    """Where it is noted which groups are those of functions."""
    backend = RemoteBackend(RpcCaller(platform.client.own()))
    return ServiceStore(backend, _TABLES, platform.namespace).table("groups")
