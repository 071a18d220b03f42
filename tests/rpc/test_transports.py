"""Each transport does what every transport does, and what only it must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conformance import Open, TransportConformance
from .streams import StreamConformance
from .wires import lane_net, memory_net, nats_net


class TestMemory(TransportConformance, StreamConformance):
    @pytest.fixture
    def opened(self) -> Open:
        return memory_net


class TestLane(TransportConformance, StreamConformance):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Open:
        return lambda: lane_net(tmp_path)


class TestLaneOnUvloop(TestLane):
    loop = "uvloop"


class TestNats(TransportConformance, StreamConformance):
    @pytest.fixture
    def opened(self, nats_url: str) -> Open:
        return lambda: nats_net(nats_url)
