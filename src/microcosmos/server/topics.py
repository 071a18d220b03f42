"""What a namespace says and remembers: its broker and its log, as the core has them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from nats.aio.client import Client as NatsClient

from microcosmos.base import errors
from microcosmos.base.home import write_atomically
from microcosmos.base.tasks import background
from microcosmos.broker import Broker
from microcosmos.broker.memory import MemoryBroker
from microcosmos.broker.nats import NatsBroker
from microcosmos.events.interface import Log
from microcosmos.events.memory import MemoryLog
from microcosmos.events.nats import NatsLog

logger = logging.getLogger("microcosmos.core")

AGAIN = 1.0
"""Seconds until an engine that could not keep events is asked again."""

REPLICAS = 3
"""Servers of a cluster on which each event is kept; one, where the engine is a single server."""

_KEY = "groups"
_BYTES = 32


class Topics:
    """The topics of a namespace.

    Attributes:
        broker: carries messages.

    Args:
        broker: see above.
        log: keeps events; None until there is one.
    """

    def __init__(self, broker: Broker, log: Log | None = None) -> None:
        self.broker = broker
        self._log = log
        self._why = "the engine has not answered yet"

    @property
    def log(self) -> Log:
        """Keeps events.

        Raises:
            errors.Unavailable: the engine cannot, just now.
        """
        if self._log is None:
            raise errors.Unavailable("events", f"there are no events yet: {self._why}")
        return self._log

    @property
    def kept(self) -> Log | None:
        """What keeps events; None until there is one."""
        return self._log

    async def open(self, log: NatsLog, stack: AsyncExitStack) -> bool:
        """Keep events on the engine from now on, if it can.

        Args:
            log: its events.
            stack: leaves it.
        """
        try:
            self._log = await stack.enter_async_context(log)
        except errors.Error as error:
            if error.detail != self._why:
                logger.warning("there are no events: %s", error.detail)
            self._why = error.detail
        return self._log is not None


Opener = Callable[[str, NatsClient | None], AbstractAsyncContextManager[Topics]]
"""Opens the topics of a namespace, on a connection in its account if there is an engine."""


class Engine:
    """Opens the topics of namespaces on the engine; without one they are in memory.

    Args:
        keys: the folder with the seeds.
        durability: what an acknowledged event survives, for people.
        replicas: on how many servers of the engine each event is kept.
    """

    def __init__(self, keys: Path, *, durability: str, replicas: int = 1) -> None:
        self._secret = _secret(keys)
        self._durability = durability
        self._replicas = replicas

    def log(self, nc: NatsClient) -> NatsLog:
        """The log of a namespace, to be entered."""
        return NatsLog(
            nc,
            secret=self._secret,
            replicas=self._replicas,
            durability=self._durability,
        )

    @asynccontextmanager
    async def __call__(self, namespace: str, nc: NatsClient | None) -> AsyncIterator[Topics]:
        """See `Opener`."""
        async with AsyncExitStack() as stack:
            if nc is None:
                yield await stack.enter_async_context(in_memory(namespace, nc))
                return
            topics = Topics(NatsBroker(nc))
            stack.push_async_callback(topics.broker.close)
            if not await topics.open(self.log(nc), stack):
                # Everything else goes on without events.
                await stack.enter_async_context(background(self._open(topics, nc, stack), "events"))
            yield topics

    async def _open(self, topics: Topics, nc: NatsClient, stack: AsyncExitStack) -> None:
        while True:
            await asyncio.sleep(AGAIN)
            if await topics.open(self.log(nc), stack):
                return


@asynccontextmanager
async def in_memory(namespace: str, nc: NatsClient | None) -> AsyncIterator[Topics]:
    """Topics that are forgotten; see `Opener`."""
    topics = Topics(MemoryBroker(), MemoryLog())
    yield topics
    await topics.broker.close()


def _secret(folder: Path) -> bytes:
    """What the names of groups on the engine are made with; made on first use."""
    path = folder / _KEY
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if len(kept) != _BYTES:
        kept = secrets.token_bytes(_BYTES)
        write_atomically(path, kept)
    return kept
