"""Generated clients, loaded, checked and called."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import itertools
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from microcosmos.gateway.app import Gateway
from microcosmos.gateway.worker import serve
from microcosmos.registry.interface import Described, Description
from microcosmos.service import Service
from microcosmos.testing import Bench

from .things import things

TOOLS = Path(sys.executable).parent
CACHE = Path.home() / ".cache" / "microcosmos-tests"
MYPY = (TOOLS / "mypy", "--strict", "--cache-dir", CACHE / "mypy")
"""Keeps what it knows of other packages for the next run."""

# Pinned: what they find wrong changes from one to the next.
PACKAGES = ("typescript@5.9.3", "pyright@1.1.405")


def describe(service: Service) -> Description:
    """What the registry says of a service."""
    hosted = service.hosted()
    endpoints = [
        Described(name=one.name, metadata=one.metadata, schema=msgspec.json.decode(one.schema))
        for one in hosted.endpoints.values()
    ]
    return Description(name=hosted.name, endpoints=endpoints)


@pytest.fixture
def described() -> Description:
    return describe(things)


_numbers = itertools.count()


def load(text: str) -> types.ModuleType:
    """A module of this text."""
    spec = importlib.util.spec_from_loader(f"generated_{next(_numbers)}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    exec(compile(text, module.__name__, "exec"), module.__dict__)
    return module


@pytest.fixture
def loaded() -> Callable[[str], types.ModuleType]:
    return load


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of the programs of typescript and pyright, installed once for all runs."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = CACHE / "-".join(PACKAGES).replace("@", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules" / ".bin" / "pyright").exists():
            options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
            subprocess.run(
                ["npm", "install", *options, *PACKAGES],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
    return folder / "node_modules"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program in the test's folder."""

    def start(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return start


@pytest.fixture
def site(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[str]:
    """The URL of a gateway over a platform in memory, with the service on it."""
    stack = contextlib.AsyncExitStack()

    async def start() -> str:
        await platform.start(things)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        gateway = Gateway(platform.platform.client, platform.platform.table)
        await stack.enter_async_context(serve(gateway, listening, websockets=True))
        return f"http://127.0.0.1:{port}"

    yield microcosmos_runner.run(start())
    microcosmos_runner.run(stack.aclose())
