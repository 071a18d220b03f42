"""What the tests of the server share: a home, waiting, and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from microcosmos.base.home import Home, ServerInfo
from microcosmos.runtime.interface import ProcessSpec
from microcosmos.server.drain import Drain
from microcosmos.server.processes import Processes
from microcosmos.server.supervisor import Supervisor

PROGRAMS = Path(__file__).with_name("programs")
DEADLINE = 60.0

Until = Callable[[Callable[[], object]], None]


def until(condition: Callable[[], object]) -> None:
    """Block until a condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.01)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Kit:
    """What test modules, which cannot import each other, get by one fixture."""

    until = staticmethod(until)
    eventually = staticmethod(eventually)
    alive = staticmethod(alive)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spec(self, name: str, code: str, *arguments: str, **env: str) -> ProcessSpec:
        """A Python program, with its log in the test's folder."""
        source = os.environ.get("PYTHONPATH", "")
        return ProcessSpec(
            name=name,
            argv=[sys.executable, "-c", code, *arguments],
            env={"PYTHONPATH": source, **env},
            cwd=str(self.folder),
            log=str(self.folder / f"{name}.log"),
        )

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    @contextlib.asynccontextmanager
    async def supervisor(self, patience: float = 5.0) -> AsyncIterator[Supervisor]:
        async with Processes() as processes, Supervisor(processes, Drain(patience)) as supervisor:
            yield supervisor


class Running:
    """A whole server in a process of its own, with small programs for core and gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.journal = folder / "journal"
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, preexec_fn: Callable[[], object] | None = None, **env: str
    ) -> subprocess.Popen[str]:
        settings = {
            "MICRO_HOME": str(self.home.path),
            "MICRO_API_ADDRESS": "127.0.0.1:0",
            "MICRO_PROXY_ADDRESS": "127.0.0.1:0",
            "MICRO_GATEWAYS": "1",
            "JOURNAL": str(self.journal),
        }
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "server.py")],
            env={**os.environ, **settings, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=preexec_fn,
        )
        self._started.append(process)
        return process

    def ready(self, **given: Any) -> subprocess.Popen[str]:
        """Start one, and wait until it says so."""
        process = self.start(**given)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "ready in" in first, first + process.communicate(timeout=DEADLINE)[0]
        return process

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a server's end: its status, and what it has still said."""
        assert process.stdout is not None
        # Not communicate, which would leave out what the line read before has buffered.
        said = process.stdout.read()
        return process.wait(DEADLINE), said

    def info(self) -> ServerInfo:
        info = self.home.server_info()
        assert info is not None
        return info

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def pid_of(self, word: str) -> int:
        """The process that wrote ``word PID`` into the journal last."""
        found = [line.split()[1] for line in self.lines() if line.split()[0] == word]
        return int(found[-1]) if found else 0

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()
