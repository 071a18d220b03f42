"""A real server, and what people do with it: type commands, call by HTTP, kill processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import psutil

from microcosmos.base.home import Home, ServerInfo

T = TypeVar("T")

# Told of it, httpx does not read all authorities of the world for each client that speaks no TLS.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

DEADLINE = 60.0
_MICRO = ("-m", "microcosmos.cli")
_DOORS = ("--api_address=127.0.0.1:0", "--proxy_address=127.0.0.1:0", "--web_address=127.0.0.1:0")


def until(condition: Callable[[], T], deadline: float = DEADLINE) -> T:
    """What a condition gives as soon as that is true."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.02)
    return found


def once_within(bound: float, measured: Callable[[], float]) -> None:
    """Measure until something took less than so many seconds, a few times at most.

    What is slow by itself is so each time; a busy machine is slow now and then.
    """
    took: list[float] = []
    while not took or took[-1] >= bound:
        assert len(took) < 5, f"it took {took} seconds"
        took.append(measured())


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Live:
    """A server in a home of its own, and a shell for it.

    Args:
        flags: of `micro server`, beside those that take free ports.
        env: variables for every command.
        home: where it lives; else a new, short-named temporary folder.
        python: whose environment it runs in; else this one's.
    """

    def __init__(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        home: Path | None = None,
        python: Path | None = None,
    ) -> None:
        self._micro = (str(python or sys.executable), *_MICRO)
        self.home = Home(home or tempfile.mkdtemp(prefix="e2e-", dir="/tmp"))
        self.work = Path(tempfile.mkdtemp(prefix="e2e-work-", dir="/tmp"))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MICRO_", "NATS_"))}
        self.env = {**kept, "MICRO_HOME": str(self.home.path), "NO_COLOR": "1", **(env or {})}
        self.flags = flags
        self.output = self.work / "server.out"
        self.process: subprocess.Popen[bytes] | None = None
        self._typed: list[subprocess.Popen[str]] = []
        self._web: httpx.Client | None = None
        self._admin: httpx.Client | None = None

    # the server

    def start(self) -> Live:
        """Start the server, and wait until it has said that it is ready."""
        with self.output.open("ab") as file:
            before = file.tell()
            self.process = subprocess.Popen(
                [*self._micro, "server", *_DOORS, *self.flags],
                cwd=self.work,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, self.output.read_text()
            return b"ready in" in self.output.read_bytes()[before:]

        until(ready)
        self._close_web()
        return self

    def stop(self) -> int:
        """Ctrl-C; the exit code of the server."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """`kill -9` of the supervisor."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)

    def end(self) -> None:
        """End the server if it runs, whatever that takes."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()

    def close(self) -> None:
        """End everything, and look whether a traceback has reached a log."""
        for typed in self._typed:
            if typed.poll() is None:
                typed.kill()
            typed.communicate()
        self.end()
        self._close_web()
        logs = self.logs()
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.home.path, ignore_errors=True)
        for name, text in logs.items():
            assert "Traceback" not in text, f"{name} has a traceback:\n{text[-4000:]}"

    def logs(self) -> dict[str, str]:
        """What the server's own processes have written."""
        names = r"(core|gateway-\d+|nats|server)\.log"
        files = [file for file in self.home.logs.glob("*.log") if re.fullmatch(names, file.name)]
        files += [self.output] if self.output.exists() else []
        return {file.name: file.read_text(errors="replace") for file in files}

    @property
    def info(self) -> ServerInfo:
        info = self.home.server_info()
        assert info is not None, "no server is running"
        return info

    def pid(self, name: str) -> int:
        """The process of a name in server.json, other than one that has ended."""
        return self.info.pids[name]

    def kill_child(self, name: str) -> int:
        """`kill -9` of one of the server's own processes, whose PID is returned."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, name: str, before: int) -> int:
        """Wait until a process has been started again: its new PID."""
        return until(lambda: (pid := self.info.pids.get(name, before)) != before and pid)

    def children(self) -> list[int]:
        """Every process below the supervisor."""
        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    # the shell

    def typing(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        typed = subprocess.Popen(
            [*self._micro, *words],
            cwd=cwd or self.work,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._typed.append(typed)
        return typed

    def ended(self, typed: subprocess.Popen[str], timeout: float = 120.0) -> Said:
        """The end of a command; none shows a traceback."""
        out, err = typed.communicate(timeout=timeout)
        self._typed.remove(typed)
        said = Said(typed.returncode, out, err)
        assert "Traceback" not in out + err, said
        return said

    def type(self, *words: str, cwd: Path | None = None, **env: str) -> Said:
        """Type a command and wait for its end."""
        return self.ended(self.typing(*words, cwd=cwd, **env))

    def micro(self, *words: str, cwd: Path | None = None, **env: str) -> Said:
        """Type a command that succeeds."""
        said = self.type(*words, cwd=cwd, **env)
        assert said.code == 0, said
        return said

    def refused(self, code: int, *words: str, cwd: Path | None = None, **env: str) -> str:
        """Type a command that fails with one readable line, which is returned."""
        said = self.type(*words, cwd=cwd, **env)
        assert (said.code, said.out) == (code, ""), said
        (line,) = said.err.splitlines()
        assert line.startswith("micro: "), said
        return line

    def call(self, service: str, *words: str) -> Any:
        """The answer of a service by `micro SERVICE …`."""
        return self.micro(service, *words).json

    def status(self, name: str) -> dict[str, Any]:
        (row,) = self.micro("status", name, "--output", "json").json
        found: dict[str, Any] = row
        return found

    # HTTP

    @property
    def url(self) -> str:
        return f"http://{self.info.addresses['api']}"

    @property
    def web(self) -> httpx.Client:
        """A client that tries nothing twice."""
        if self._web is None:
            self._web = client(self.url)
        return self._web

    @property
    def admin(self) -> httpx.Client:
        """`web` with the token of whoever types commands here."""
        if self._admin is None:
            self._admin = client(self.url)
            token = self.micro("user", "token").out.strip()
            self._admin.headers["Authorization"] = f"Bearer {token}"
        return self._admin

    def _close_web(self) -> None:
        for opened in (self._web, self._admin):
            if opened is not None:
                opened.close()
        self._web = self._admin = None

    # services

    def folder(self, name: str, program: str = "", **files: str) -> Path:
        """A folder with a program in it; ``a__b_txt`` is the file ``a/b.txt``."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        if program:
            (folder / "main.py").write_text(program)
        for key, text in files.items():
            path = folder / key.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    @contextlib.contextmanager
    def running(self, name: str, program: str, *flags: str, **files: str) -> Iterator[Path]:
        """A service that runs from a folder while the block does."""
        folder = self.folder(name, program, **files)
        self.micro("run", str(folder), *flags)
        try:
            yield folder
        finally:
            self.type("kill", name)


def client(url: str) -> httpx.Client:
    transport = httpx.HTTPTransport(verify=NO_AUTHORITIES, retries=0)
    return httpx.Client(base_url=url, transport=transport, timeout=60.0, trust_env=False)


def program(name: str, says: str = "one", more: str = "") -> str:
    """A service whose `call` tells what it is; its replicas differ in their PIDs."""
    return f"""
import os
from microcosmos import Service, errors

service = Service({name!r})


@service.endpoint
async def call(name: str = "World") -> dict[str, str]:
    return {{"says": {says!r}, "name": name, "pid": str(os.getpid())}}

{more}

if __name__ == "__main__":
    service.run()
"""
