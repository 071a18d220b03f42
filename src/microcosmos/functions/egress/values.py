"""The values of secrets, asked of the core when they are needed, and not kept for long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator

from microcosmos.base import codec, errors
from microcosmos.base.home import Home
from microcosmos.functions.requests import NAME, Revealed, RevealRequest
from microcosmos.rpc.client import Client
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.one_socket import OneSocket

from .filling import ID
from .policy import Policy

KEEP = 60.0
"""Seconds for which a value is used again; a new one is another version of the key, and is asked
for at once."""

MAX_KEPT = 1000
"""Values that are kept."""

PATIENCE = 10.0
"""Seconds for the core to tell one."""

_Key = tuple[str, str, str, str]


class CoreValues:
    """See `filling.Values`.

    Args:
        client: reaches the core.
        proof: what makes it tell.
    """

    def __init__(self, client: Client, proof: str) -> None:
        self._client = client
        self._proof = proof
        self._kept: OrderedDict[_Key, tuple[float, str]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[str]] = {}

    async def value(self, policy: Policy, secret: str) -> str:
        """See `filling.Values`."""
        key = (policy.namespace, policy.name, policy.key, secret)
        until, value = self._kept.get(key, (0.0, ""))
        if until > time.monotonic():
            return value
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key), name="secret")
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: _Key) -> str:
        namespace, name, _, secret = key
        request = RevealRequest(namespace, name, secret, self._proof)
        try:
            answer = await self._client.call(
                NAME, "Functions.Reveal", codec.encode(request), timeout=PATIENCE
            )
        except (errors.NotFound, errors.DeadlineExceeded) as error:
            # The function is no more, or the core is being started and does not know itself yet.
            detail = f"the secret {secret} cannot be had now: {error.detail}"
            raise errors.Unavailable(ID, detail) from None
        revealed: Revealed = codec.decode(answer, Revealed, id=ID)
        value = revealed.value
        self._kept[key] = time.monotonic() + KEEP, value
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return value


@contextlib.asynccontextmanager
async def open_values(home: Home, proof: str) -> AsyncIterator[CoreValues]:
    """The values that the core of a home keeps.

    Args:
        home: where its socket is.
        proof: what makes it tell.
    """
    socket = OneSocket(NAME, home.core_lane, retries=True)
    lane = LaneTransport(socket, here=(NAME,))
    try:
        yield CoreValues(Client([lane], socket), proof)
    finally:
        await lane.close()
