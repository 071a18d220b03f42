"""A real NATS server for the tests of rpc, and the loop that a class of tests asks for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from .wires import NatsServer


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the tests of a class with `loop = "uvloop"` as services run in production."""
    if getattr(pyfuncitem.cls, "loop", "") != "uvloop":
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


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
