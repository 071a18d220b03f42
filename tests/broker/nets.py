"""Brokers as the tests see them: a net, and a broker of its own for each process on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from microcosmos.base import context
from microcosmos.broker import Broker, Message
from microcosmos.broker.client import RemoteBroker
from microcosmos.broker.memory import MemoryBroker
from microcosmos.broker.nats import NatsBroker
from microcosmos.broker.service import Authorise, BrokerService, trusting
from microcosmos.rpc import Client, MemoryNetwork, Server
from microcosmos.rpc.nats import connect

Join = Callable[[], AsyncIterator[Broker]]


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition, of any side
            await asyncio.sleep(0)


class Heard(list[Message]):
    """What a subscriber heard; a sink that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.append(message)
        self._came.set()

    async def first(self, number: int) -> list[Message]:
        """The first so many, waited for."""
        async with asyncio.timeout(60):
            while len(self) < number:
                self._came.clear()
                await self._came.wait()
        return self[:number]

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self]


class Net:
    """Where brokers meet.

    Attributes:
        publisher: a process.
        subscriber: another one.
    """

    def __init__(self, publisher: Broker, subscriber: Broker) -> None:
        self.publisher = publisher
        self.subscriber = subscriber


@contextlib.asynccontextmanager
async def in_memory() -> AsyncIterator[Net]:
    broker = MemoryBroker()
    yield Net(broker, broker)
    await broker.close()


@contextlib.asynccontextmanager
async def on_nats(url: str) -> AsyncIterator[Net]:
    async with connect(url) as one, connect(url) as other:
        publisher, subscriber = NatsBroker(one), NatsBroker(other)
        yield Net(publisher, subscriber)
        await publisher.close()
        await subscriber.close()


class Core:
    """A core that serves a broker to remote ones; it can die and come back."""

    def __init__(self, broker: Broker, authorise: Authorise = trusting) -> None:
        self.broker = broker
        self.network = MemoryNetwork()
        self._authorise = authorise
        self._server = self._serving()

    def _serving(self) -> Server:
        server = Server()
        server.add(BrokerService(lambda _: self.broker, self._authorise).hosted())
        self.network.join(server)
        return server

    def die(self) -> None:
        self.network.cut(self._server)

    def come_back(self) -> None:
        self._server = self._serving()

    def client(self) -> Client:
        return Client([self.network])


@contextlib.asynccontextmanager
async def remote(broker: Broker | None = None) -> AsyncIterator[Net]:
    core = Core(broker or MemoryBroker())
    net = Net(RemoteBroker(core.client()), RemoteBroker(core.client()))
    yield net
    await net.publisher.close()
    await net.subscriber.close()


@contextlib.contextmanager
def handling(**metadata: str) -> Any:
    """Be in the middle of a call with metadata."""
    titled = context.Metadata({name.replace("_", "-"): text for name, text in metadata.items()})
    token = context._current.set(context.Context(titled))
    try:
        yield
    finally:
        context._current.reset(token)
