"""Pages as the tests read them, and a shell in a home of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from microcosmos.base.home import Home

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT = 120


class Fence(NamedTuple):
    """A fenced block: what stands after its first mark, its text, and its line in the page."""

    info: str
    text: str
    line: int


class Page(NamedTuple):
    """A page of the documentation."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    def fences(self) -> list[Fence]:
        text = self.text
        return [
            Fence(found[1].strip(), found[2], text.count("\n", 0, found.start()) + 2)
            for found in _FENCE.finditer(text)
        ]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _FENCE.sub("", self.text)


class Shell:
    """Runs the lines of a session as a reader would, in a folder and a home of its own.

    The pages show the ports that a server takes unless it is told otherwise; here it takes free
    ones, and what a line or a program says of the usual ports is said of those.
    """

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "h")
        self.work = folder / "work"
        self.work.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MICRO_", "NATS_"))}
        doors = {f"MICRO_{door}_ADDRESS": "127.0.0.1:0" for door in ("API", "PROXY", "WEB")}
        doors["MICRO_GATEWAYS"] = "1"
        programs = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        # What readers do not have: plugins of what our own tests use, which take a second to load.
        kept["PYTEST_ADDOPTS"] = "-p no:schemathesis -p no:hypothesispytest"
        git = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        kept |= dict.fromkeys(git, "ann@example.com")
        self._env = {**kept, **doors, "MICRO_HOME": str(self.home.path), "PATH": programs}

    def run(self, command: str) -> str:
        """What a line prints, errors included."""
        done = subprocess.run(
            ["sh", "-c", self._here(command)],
            cwd=self.work,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
        )
        said = done.stdout.replace(str(self.home.lanes), "/home/ann/.micro/lanes")
        said = said.replace(str(self.home.path), "/home/ann/.micro")
        return said.replace(str(self.work), "/home/ann")

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(text))

    def _here(self, text: str) -> str:
        info = self.home.server_info()
        for port, door in ((8080, "api"), (8081, "proxy")):
            if info is not None:
                text = text.replace(f"127.0.0.1:{port}", info.addresses[door])
        return text

    def close(self) -> None:
        if (info := self.home.server_info()) is not None:
            # At once: what a page says of `micro stop` it types itself. Nothing outlives a server.
            os.kill(info.pids["server"], signal.SIGKILL)
        # Of a home with a long path the sockets are elsewhere.
        shutil.rmtree(self.home.lanes, ignore_errors=True)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a ``page`` on each, for a ``session`` on those that have one."""
    pages = [Page(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages, ids=lambda page: page.name)
    if "session" in metafunc.fixturenames:
        typed = [page for page in pages if any(f.info == "console" for f in page.fences())]
        metafunc.parametrize("session", typed, ids=lambda page: page.name)
