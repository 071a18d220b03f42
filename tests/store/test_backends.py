"""Each backend does what every store does."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base.clock import ManualClock
from microcosmos.store import open_store

from .conformance import Open, StoreConformance
from .postgres import Postgres


class TestMemory(StoreConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        return lambda: open_store("memory://", clock=clock)


class TestSQLite(StoreConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, tmp_path: Path) -> Open:
        return lambda: open_store(f"sqlite://{tmp_path}/store.db", clock=clock)


class TestPostgres(StoreConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, postgres: Postgres) -> Open:
        url = postgres.empty()
        return lambda: open_store(url, clock=clock)
