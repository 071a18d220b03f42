"""Tokens by which functions call as themselves, kept until shortly before they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from microcosmos.base.tasks import apart
from microcosmos.functions.requests import Pass

SPARE = 60.0
"""Seconds before its end at which a token is not used any more."""

Grant = Callable[[str, str], Awaitable[Pass]]
"""Gives the token of a function, by namespace and name; `client.PlatformFunctions.grant`."""

_Key = tuple[str, str]


class Passes:
    """The tokens of functions.

    Args:
        grant: gives them.
        time: now, in seconds since the epoch.
    """

    def __init__(self, grant: Grant, time: Callable[[], float] = time.time) -> None:
        self._grant = grant
        self._time = time
        self._known: dict[_Key, Pass] = {}
        self._asking: dict[_Key, asyncio.Task[Pass]] = {}

    async def header(self, namespace: str, name: str) -> str:
        """The Authorization by which a function calls.

        Raises:
            errors.NotFound: there is no such function.
            errors.Unavailable: the core is away.
        """
        key = namespace, name
        known = self._known.get(key)
        if known is None or known.expiry - SPARE < self._time():
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = apart(self._ask(key), "pass")
                asking.add_done_callback(lambda _: self._asking.pop(key, None))
            known = await asyncio.shield(asking)
        return f"Bearer {known.token}"

    def forget(self, namespace: str, name: str) -> None:
        """A token is good no more."""
        self._known.pop((namespace, name), None)

    async def _ask(self, key: _Key) -> Pass:
        known = self._known[key] = await self._grant(*key)
        return known
