"""A worker on QuickJS, in a process that the tests of a module share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..engines.workers import Process, Worker


def command(path: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "microcosmos.functions.quickjs", path], {}


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    """A process that no test may leave worse than it was."""
    started = Process(command)
    yield started
    started.stop()


@pytest.fixture
def worker(process: Process) -> Worker:
    """The line to it, to be opened by the test."""
    return Worker(process)


@pytest.fixture
def own() -> Iterator[Worker]:
    """A worker that the test may end; to be opened by the test."""
    started = Process(command)
    yield Worker(started)
    started.stop()
