from __future__ import annotations

from collections.abc import Iterator

import pytest

from .postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the tests of a process; those that stop it start it again."""
    server = Postgres()
    yield server
    server.close()
