"""A worker on Deno, in a process that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from microcosmos.functions import deno

from ..engines.workers import Process, Worker, walled

HEAP = 128 * 1024 * 1024


def command(path: str) -> tuple[list[str], dict[str, str]]:
    return deno.command(Path(path), heap=HEAP, folder=Path(path).parent / "deno")


def _walled(path: str) -> tuple[list[str], dict[str, str]]:
    return walled(path, *command(path))


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    """A process that no test may leave worse than it was."""
    started = Process(_walled)
    yield started
    started.stop()


@pytest.fixture
def worker(process: Process) -> Worker:
    """The line to it, to be opened by the test."""
    return Worker(process, "deno")


@pytest.fixture
def own() -> Iterator[Worker]:
    """A worker that the test may end; to be opened by the test."""
    started = Process(_walled)
    yield Worker(started, "deno")
    started.stop()
