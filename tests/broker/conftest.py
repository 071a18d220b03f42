from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..rpc.wires import NatsServer


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS server that all tests share, with the limits of the platform's own."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), 8 * 1024 * 1024 + 64 * 1024)
    yield server.url
    server.kill()


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server that a test may kill, with the default limit of 1 MiB a message."""
    server = NatsServer(tmp_path, 1024 * 1024)
    yield server
    server.kill()
