"""A real NATS server for the tests of rpc, and the loop that a class of tests asks for."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop


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


class NatsServer:
    """A nats-server of its own, on a free port."""

    def __init__(self, folder: Path, max_payload: int) -> None:
        self._folder = folder
        self._port = -1
        self._settings = f"max_payload: {max_payload}\n"
        self.start()

    def start(self) -> None:
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self._port}"\nports_file_dir: "{self._folder}"\n' + self._settings
        )
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("nats-server"), "-c", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = self._url()
        self._port = int(self.url.rpartition(":")[2])

    def _url(self) -> str:
        told = self._folder / f"nats-server_{self._process.pid}.ports"
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self._process.poll() is None, "nats-server has ended"
            if told.exists() and (text := told.read_text()):
                return str(json.loads(text)["nats"][0])
            time.sleep(0.005)
        raise AssertionError("nats-server told no port")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


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
