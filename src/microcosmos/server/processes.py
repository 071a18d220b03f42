"""Processes: starts, signals and reaps the children of the supervisor, none of which outlives it.

The process that runs this must stay free of threads, for two reasons. Python code runs between
fork and exec, where a lock that another thread held stays locked for ever; and Linux sends the
parent-death signal when the *thread* that forked ends. It runs on asyncio's own loop, whose
SIGCHLD is ours to take.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from microcosmos.base import errors
from microcosmos.runtime.interface import ProcessSpec

_GUARD = Path(__file__).with_name("guard.py")

# A killed process is gone in milliseconds, unless the kernel holds it in a device.
_KILL_LIMIT = 5.0

_PR_SET_PDEATHSIG = 1
# Loaded here, not in the child: loading takes locks and memory.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Process:
    """A child with a session, and so a process group, of its own."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.pid = popen.pid
        self.started = time.monotonic()
        self.code: int | None = None
        self._popen = popen
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait for its end: its exit status, negative for the signal that ended it."""
        await self._ended.wait()
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; one that has gone is no error."""
        # Once reaped, the number may be another process' already.
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def reap(self) -> bool:
        """Whether it has ended; if so, what is left of its group is killed.

        A process is its leader: children that it leaves behind would hold its ports and files
        against the one that is started in its place.
        """
        code = self._popen.poll()
        if code is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.code = code
        self._ended.set()
        return True


class Processes:
    """Every child of this process, from start to reaping; leaving the block kills what is left."""

    def __init__(self) -> None:
        self._living: dict[int, Process] = {}
        self._guard = _Guard()
        self._lifeline = (-1, -1)

    async def __aenter__(self) -> Processes:
        self._lifeline = os.pipe()
        self._guard.start(())
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await kill(self._living.values())
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        self._guard.stop()
        for descriptor in self._lifeline:
            os.close(descriptor)

    @property
    def lifeline(self) -> int:
        """The end of the pipe that our own children inherit and watch: it closes with us."""
        return self._lifeline[0]

    def start(self, spec: ProcessSpec, descriptors: Iterable[int] = ()) -> Process:
        """Start a process in a session of its own, inheriting only the descriptors named.

        Raises:
            errors.BadRequest: it cannot be started; the detail says why.
        """
        try:
            popen = _popen(spec, tuple(descriptors))
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            raise errors.BadRequest("supervisor", _why_not(spec, exc)) from None
        process = Process(spec.name, popen)
        self._living[process.pid] = process
        self._guard.tell(f"+{process.pid}\n", self._living)
        return process

    def _reap(self) -> None:
        # Signals are not counted: one SIGCHLD may stand for many ends.
        for process in list(self._living.values()):
            if process.reap():
                del self._living[process.pid]
                self._guard.tell(f"-{process.pid}\n", self._living)
        self._guard.revive(self._living)


async def kill(processes: Iterable[Process]) -> None:
    """Kill processes and wait until they have been reaped."""
    condemned = list(processes)
    for process in condemned:
        process.signal(signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_LIMIT):
            for process in condemned:
                await process.wait()


def _popen(spec: ProcessSpec, descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    log = Path(spec.log)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            spec.argv,
            env=spec.env,
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
    finally:
        os.close(output)


def _die_with_parent() -> Callable[[], None] | None:
    return None if _libc is None else functools.partial(_ask_for_death, os.getpid())


def _ask_for_death(parent: int) -> None:
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the request was made.
    if os.getppid() != parent:
        os._exit(1)


def _why_not(spec: ProcessSpec, exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        named = f": {exc.filename}" if exc.filename else ""
        return f"{spec.name} cannot be started: {exc.strerror}{named}"
    return f"{spec.name} cannot be started: {exc}"


class _Guard:
    """The supervisor's end of `guard`."""

    _popen: subprocess.Popen[bytes]
    _stopped = False

    def start(self, groups: Iterable[int]) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        for pid in groups:
            self._write(f"+{pid}\n")

    def tell(self, line: str, groups: Iterable[int]) -> None:
        if not self._write(line):
            self.revive(groups)

    def revive(self, groups: Iterable[int]) -> None:
        # A reaping that was under way may still come once it has been stopped.
        if not self._stopped and self._popen.poll() is not None:
            self._close()
            self.start(groups)

    def stop(self) -> None:
        self._stopped = True
        self._close()
        self._popen.wait()

    def _write(self, line: str) -> bool:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line.encode())
        except BrokenPipeError:
            return False
        return True

    def _close(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()
