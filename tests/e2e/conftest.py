"""One server for many tests, and servers of their own for those that break them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .live import Live


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """A server that many tests share: names in them are unique."""
    server = Live("--gateways=2")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def another() -> Iterator[Callable[..., Live]]:
    """Makes servers for one test, which have not been started."""
    made: list[Live] = []

    def make(*flags: str, **options: object) -> Live:
        made.append(Live(*(flags or ("--gateways=1",)), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.close()
