from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...store.postgres import Postgres
from .books import Leaping

NOON = 1_793_534_400.0
"""2026-11-01T12:00:00Z."""


@pytest.fixture
def clock() -> Leaping:
    return Leaping(NOON)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()
