"""The connection to the engine, as what must know when it breaks and comes back sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Protocol

from nats.aio.client import Client as NatsClient

from microcosmos.base import errors
from microcosmos.rpc.connection import when_disconnected, when_reconnected


class Listener(Protocol):
    """Is told how the connection is."""

    def broken(self) -> None:
        """It broke: what was asked for is not answered."""

    def restored(self) -> None:
        """It is back."""


class Link:
    """Tells listeners, which come and go, how one connection is.

    Args:
        nc: the connection.
    """

    def __init__(self, nc: NatsClient) -> None:
        self.nc = nc
        self._listeners: list[Listener] = []
        when_disconnected(nc, self._broken)
        when_reconnected(nc, self._restored)

    def add(self, listener: Listener) -> None:
        """Tell it from now on."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Tell it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def check(self) -> None:
        """See that something can be sent.

        Raises:
            errors.Unavailable: not now.
        """
        if not self.nc.is_connected:
            raise errors.Unavailable("events", "the engine cannot be reached")

    def drop(self, inbox: str) -> None:
        """Forget what waits to be written and is answered there.

        nats-py writes it first thing when the connection is back, ahead of what was lost before.
        """
        reply = inbox.encode()
        nc = self.nc
        nc._pending = [one for one in nc._pending if reply not in one.partition(b"\r\n")[0]]
        nc._pending_data_size = sum(map(len, nc._pending))

    def _broken(self) -> None:
        for listener in list(self._listeners):
            listener.broken()

    def _restored(self) -> None:
        for listener in list(self._listeners):
            listener.restored()


class Signal:
    """Something that is waited for, by several, and told again and again."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def tell(self) -> None:
        """Let all who wait now go on."""
        while self._waiting:
            self.tell_one()

    def tell_one(self) -> None:
        """Let the one go on that has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    async def wait(self) -> None:
        """Wait to be told."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            # Who was told and is gone lets the next one go on.
            if future.done() and not future.cancelled():
                self.tell_one()
            raise


class Turnstile:
    """Who enters does so one after the other, in the order in which they came.

    A lock lets those pass that come between its release and the next one's waking up; who asks
    here first whether anybody waits does not.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._there = 0

    def __bool__(self) -> bool:
        """Whether anybody waits, or is in."""
        return self._there > 0

    async def __aenter__(self) -> None:
        self._there += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._there -= 1
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._there -= 1
        self._lock.release()
