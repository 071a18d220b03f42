"""The logs on the engine do what every log does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conformance import LogConformance
from .engine import Engine
from .worlds import Open


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


class TestNatsLog(LogConformance):
    @pytest.fixture
    def opened(self, engine: Engine) -> Open:
        return engine.by_core


class TestEngineLog(LogConformance):
    """Publishing and pulling on the engine, the rest by the core."""

    @pytest.fixture
    def opened(self, engine: Engine) -> Open:
        return engine.by_service
