"""The ledger on each store."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.store import open_store

from ...store.postgres import Postgres
from .books import Leaping
from .conformance import LedgerConformance, Open


class TestMemory(LedgerConformance):
    @pytest.fixture
    def opened(self, clock: Leaping) -> Open:
        return lambda: open_store("memory://", clock=clock)


class TestSQLite(LedgerConformance):
    @pytest.fixture
    def opened(self, clock: Leaping, tmp_path: Path) -> Open:
        return lambda: open_store(f"sqlite://{tmp_path}/store.db", clock=clock)


class TestPostgres(LedgerConformance):
    @pytest.fixture
    def opened(self, clock: Leaping, postgres: Postgres) -> Open:
        url = postgres.empty()
        return lambda: open_store(url, clock=clock)
