"""Each broker does what every broker does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from microcosmos.broker import wire
from microcosmos.broker.nats import NatsBroker
from microcosmos.rpc.nats import connect

from .conformance import BrokerConformance, Open
from .nets import Net, in_memory, on_nats, remote


class TestMemory(BrokerConformance):
    @pytest.fixture
    def opened(self) -> Open:
        return in_memory


class TestNats(BrokerConformance):
    @pytest.fixture
    def opened(self, nats_url: str) -> Open:
        return lambda: on_nats(nats_url)


class TestRemote(BrokerConformance):
    largest = wire.MAX_BODY

    @pytest.fixture
    def opened(self) -> Open:
        return remote


class TestRemoteOfNats(BrokerConformance):
    largest = wire.MAX_BODY

    @pytest.fixture
    def opened(self, nats_url: str) -> Open:
        @contextlib.asynccontextmanager
        async def both() -> AsyncIterator[Net]:
            async with connect(nats_url) as nc:
                broker = NatsBroker(nc)
                async with remote(broker) as net:
                    yield net
                await broker.close()

        return both
