"""One visit of a contender: its processes, their cores, the load, and the end of them all."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

BENCH = Path(__file__).parent
ROOT = BENCH.parent
PEERS = BENCH / "peers"
MOLECULER = PEERS / "moleculer"
HELLO = {"msg": "Hello John"}

Figures = dict[str, float]
Cores = tuple[int, ...]


class Unavailable(Exception):
    """A contender cannot take part: not built yet, or a program of its is not installed."""


class Failed(Exception):
    """A contender was there, but did not do its work."""


@dataclass(frozen=True)
class Timing:
    """How long one visit is loaded. `wrk` takes whole seconds."""

    warmup: int = 1
    seconds: int = 3


@dataclass(frozen=True)
class Layout:
    """Which cores the server's side and the load's side may use.

    RPC has a process on each side: the service on the server's cores, the caller on the load's.
    """

    name: str
    server: Cores
    load: Cores


def layouts() -> dict[str, Layout]:
    """The layouts on the first two cores of this machine (on a single core they are all one)."""
    both = tuple(sorted(os.sched_getaffinity(0))[:2])
    first, last = both[:1], both[-1:]
    return {
        "apart": Layout("server side on one core, load on another", first, last),
        "shared": Layout("server side and load free on the same two cores", both, both),
    }


class Lab:
    """The processes of one visit, in a folder of their own; leaving it ends them."""

    def __init__(self, layout: Layout, timing: Timing) -> None:
        self.layout = layout
        self.timing = timing
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()
        self._nats_url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            stop(process)
        self._folder.cleanup()

    def start(
        self,
        *command: str | Path,
        cores: Cores | None = None,
        env: dict[str, str] | None = None,
        ready: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start a program, pinned to the server's cores unless said; wait for a line of output."""
        process, log = self._spawn(command, cores or self.layout.server, env or {})
        if ready:
            what = f"{shown(command)} is ready"
            self.until(lambda: ready in log.read_text(errors="replace"), what)
        return process

    def call(self, *command: str | Path, cores: Cores | None = None, timeout: float = 60) -> str:
        """Run a program to its end, on the load's cores unless said, and give its output."""
        process, log = self._spawn(command, cores or self.layout.load, {})
        # Popen.wait(timeout) polls, which would spoil the timing of short commands.
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        code = process.wait()
        watchdog.cancel()
        self._processes.remove(process)
        output = log.read_text(errors="replace")
        if code:
            raise Failed(f"{shown(command)} ended with {code}\n{output[-2000:]}")
        return output

    def python(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start one of the Python programs of this folder."""
        return self.start(sys.executable, BENCH / program, *arguments, **options)

    def pid(self) -> int:
        """The process that was started last."""
        return self._processes[-1].pid

    def nats(self) -> str:
        """A plain nats-server on a free port, free to use both sides' cores; its URL."""
        if not self._nats_url:
            port = free_port()
            binary = Path(sys.executable).with_name("nats-server")
            self._nats_url = f"nats://127.0.0.1:{port}"
            both = tuple({*self.layout.server, *self.layout.load})
            address = ("-a", "127.0.0.1", "-p", str(port))
            self.start(binary, *address, cores=both, ready="Server is ready")
        return self._nats_url

    def jetstream(self, sync: str) -> str:
        """A nats-server that keeps streams in the folder of this visit; its URL.

        Args:
            sync: ``always``, or the seconds between two times that they are put on the disk.
        """
        if not self._nats_url:
            port = free_port()
            self._nats_url = f"nats://127.0.0.1:{port}"
            streams = {"store_dir": str(self.folder / "nats"), "sync_interval": sync}
            address = {"host": "127.0.0.1", "port": port, "max_payload": 8 * 1024 * 1024}
            file = self.folder / "nats.conf"
            file.write_text(json.dumps({**address, "jetstream": streams}))
            both = tuple({*self.layout.server, *self.layout.load})
            binary = Path(sys.executable).with_name("nats-server")
            self.start(binary, "-c", file, cores=both, ready="Server is ready")
        return self._nats_url

    def wrk(self, url: str, script: Path | None = None) -> Figures:
        """Requests per second and median latency at 64 connections, after the right answer.

        Args:
            url: what is asked.
            script: makes other requests than plain ones: JSON that comes back.
        """
        if script is None:
            self.wait_for_hello(url)
        else:
            self.until(lambda: post_json(url, HELLO) == HELLO, f"{url} echoes {HELLO}")
        self._wrk(url, self.timing.warmup, script)
        return self._wrk(url, self.timing.seconds, script)

    def rpc(self, *caller: str | Path) -> Figures:
        """What a caller program reaches with 64 callers, and the median latency of one."""
        many = self._caller(caller, 64)
        one = self._caller(caller, 1)
        return {"calls/s, 64 callers": many["per_second"], "p50 ms, one caller": one["p50_ms"]}

    def stream(self, *reader: str | Path) -> Figures:
        """What a program reads of a stream."""
        numbers = (self.timing.warmup, self.timing.seconds)
        output = self.call(*reader, *map(str, numbers))
        result: dict[str, float] = json.loads(output.splitlines()[-1])
        return {"messages/s": result["per_second"]}

    def sockets(self, url: str, count: int, pids: Iterable[int]) -> Figures:
        """What idle WebSockets cost these processes."""
        output = self.call(sys.executable, BENCH / "sockets.py", url, str(count), *map(str, pids))
        figures: Figures = json.loads(output.splitlines()[-1])
        return figures

    def wait_for_hello(self, url: str) -> None:
        """Wait until a URL greets John; every HTTP contender does this same work."""
        self.until(lambda: get_json(url) == HELLO, f"{url} answers {HELLO}")

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
        """Wait for something; fail when time is up or a process has died, with the logs."""
        end = time.monotonic() + timeout
        while not condition():
            dead = next((p for p in self._processes if p.poll() not in (None, 0)), None)
            if dead or time.monotonic() > end:
                raise Failed(f"waited in vain until {what}\n{self._logs()}")
            time.sleep(0.02)

    def _spawn(
        self, command: Iterable[str | Path], cores: Cores, env: dict[str, str]
    ) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"{next(self._numbers):02}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                pinned(command, cores),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(env),
                start_new_session=True,
            )
        self._processes.append(process)
        return process, log

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        paths = (ROOT / "src", BENCH, PEERS, BENCH / "ours")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MICRO_")}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "NODE_ENV": "production",
            **({"NATS_URL": self._nats_url} if self._nats_url else {}),
            "MICRO_HOME": str(self.folder / "home"),
            **extra,
        }

    def _wrk(self, url: str, seconds: int, script: Path | None = None) -> Figures:
        command = (
            need("wrk"),
            "--threads=1",
            "--connections=64",
            f"--duration={seconds}s",
            "--latency",
            *(("--script", script) if script else ()),
        )
        return parse_wrk(self.call(*command, url))

    def _caller(self, caller: Iterable[str | Path], concurrency: int) -> dict[str, float]:
        numbers = (concurrency, self.timing.warmup, self.timing.seconds)
        output = self.call(*caller, *map(str, numbers))
        result: dict[str, float] = json.loads(output.splitlines()[-1])
        return result

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(log.read_text(errors="replace")[-1500:] for log in logs).strip()


def pinned(command: Iterable[str | Path], cores: Cores) -> list[str]:
    """A command under `taskset`; the processes it starts stay on those cores as well."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, command)]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, politely first."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def get_json(url: str) -> object:
    """The JSON at a URL, or None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def post_json(url: str, document: object) -> object:
    """What a URL answers to a document, or None if that is no JSON."""
    body = json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def parse_wrk(output: str) -> Figures:
    """The figures in what `wrk --latency` prints; errors among the answers spoil them."""
    if spoilt := re.search(r"(Socket errors|Non-2xx).*", output):
        raise Failed(f"wrk: {spoilt[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", output)
    if not rate or not median:
        raise Failed(f"wrk printed {output!r}")
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[median[2]]
    return {"requests/s": float(rate[1]), "p50 ms": float(median[1]) * scale}


def need(program: str) -> str:
    """The path of a program that a contender stands on."""
    path = shutil.which(program)
    if not path:
        raise Unavailable(f"{program} is not installed")
    return path


def shown(command: Iterable[str | Path]) -> str:
    """A command for people: without the folders."""
    return " ".join(Path(part).name if "://" not in str(part) else str(part) for part in command)
