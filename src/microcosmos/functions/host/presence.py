"""Presence: functions in the registry of their namespace, as services on the host's lane."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from types import TracebackType

import msgspec

from microcosmos.base import errors, names
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.functions.requests import OF_FUNCTIONS
from microcosmos.registry import Endpoint, Node, Options, Registry, Service

from .door import RETRY, SCHEMA
from .wishes import Wishes

TTL = 600
"""Seconds after which the functions of a host that is gone are forgotten."""

RENEW = 200.0
"""Seconds in which all are registered once more, one after the other."""

_AT_ONCE = 16
_STEP = 0.5
_LEAVING = 2.0


class Presence:
    """Keeps functions registered; used as ``async with``.

    Args:
        registry: where.
        namespace: whose.
        node: the id of this host, the same after it was started anew.
        about: metadata of the host as a node.
        restarted: set when another registry answers than before.
    """

    def __init__(
        self,
        registry: Registry,
        namespace: str,
        node: str,
        about: Mapping[str, str],
        restarted: asyncio.Event,
    ) -> None:
        self._registry = registry
        self._namespace = namespace
        self._node = node
        self._about = dict(about)
        self._restarted = restarted
        self._names: dict[str, None] = {}
        self._wishes: Wishes[bool] = Wishes(self._change, "registration", _AT_ONCE)
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Presence:
        self._keeping = asyncio.create_task(self._keep(), name="presence")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        for name in self._names:
            self._wishes.wish(name, False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.settled(), _LEAVING)
        await self._wishes.close()

    def show(self, name: str, *, there: bool = True) -> None:
        """Have a function in the registry soon, or not any more."""
        if there:
            self._names[name] = None
        else:
            self._names.pop(name, None)
        self._wishes.wish(name, there)

    async def settled(self) -> None:
        """Wait until the registry knows all of it."""
        await self._wishes.settled()

    async def _keep(self) -> None:
        """Register all once more in a while, and at once where another registry answers."""
        while True:
            turn = [*self._names]
            pause = max(RENEW / max(len(turn), 1), _STEP)
            share = math.ceil(len(turn) * pause / RENEW)
            for at in range(0, max(len(turn), 1), max(share, 1)):
                if await self._restarts(pause):
                    for name in self._names:
                        self._wishes.wish(name, True)
                    break
                for name in turn[at : at + share]:
                    if name in self._names:
                        self._wishes.wish(name, True)

    async def _restarts(self, seconds: float) -> bool:
        """Wait so long; whether another registry answers before that."""
        try:
            await asyncio.wait_for(self._restarted.wait(), seconds)
        except TimeoutError:
            return False
        self._restarted.clear()
        return True

    async def _change(self, name: str, there: bool) -> None:
        record = self._record(name)
        if there:
            await self._registry.register(record)
        else:
            with contextlib.suppress(errors.NotFound):
                await self._registry.deregister(record)

    def _record(self, name: str) -> Service:
        endpoint = names.default_endpoint(name)
        domain = "" if self._namespace == DEFAULT_NAMESPACE else self._namespace
        return Service(
            name=name,
            metadata=OF_FUNCTIONS,
            endpoints=[Endpoint(name=endpoint, metadata=RETRY)],
            schemas={endpoint: msgspec.Raw(SCHEMA)},
            options=Options(ttl=TTL, domain=domain),
            nodes=[Node(id=f"{name}-{self._node}", metadata=self._about)],
        )
