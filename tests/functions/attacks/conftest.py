"""A worker of each engine for all attacks, whose errors are kept."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..engines.conftest import ENGINES
from ..engines.workers import Command, Process


class Watched(Process):
    """A worker's process, and what it writes to its standard error."""

    def __init__(self, command: Command) -> None:
        with tempfile.NamedTemporaryFile(prefix="worker-", suffix=".err", delete=False) as file:
            self.errors = Path(file.name)

        def told(path: str) -> tuple[list[str], dict[str, str]]:
            argv, env = command(path)
            script = f'exec "$@" 2>>{shlex.quote(str(self.errors))}'
            return ["/bin/sh", "-c", script, "sh", *argv], env

        super().__init__(told)

    def stop(self) -> None:
        """Kill it; forget what it has written."""
        super().stop()
        self.errors.unlink(missing_ok=True)


@contextlib.contextmanager
def running(command: Command) -> Iterator[Watched]:
    """A worker's process for one attack."""
    process = Watched(command)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def watched() -> Iterator[Callable[[str], Watched]]:
    """A process per engine that all attacks share: none may leave it worse than it was."""
    started: dict[str, Watched] = {}

    def of(engine: str) -> Watched:
        if engine not in started:
            started[engine] = Watched(ENGINES[engine])
        return started[engine]

    yield of
    for process in started.values():
        process.stop()
