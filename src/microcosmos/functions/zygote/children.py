"""The workers of the zygote: made, signalled, reaped. None outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from microcosmos.base import errors

from .kinds import Executed, Forked, Kind, Run
from .messages import Exit, Worker

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
# Loaded here, not in the child: loading takes locks and memory.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

_BACKLOG = 128


class Children:
    """The workers that live.

    Args:
        kinds: how they are started, by name.
        folder: where their sockets are.
        leave: closes, in a child, what this process has open.
    """

    def __init__(self, kinds: Mapping[str, Kind], folder: Path, leave: Callable[[], None]) -> None:
        self._kinds = kinds
        self._folder = folder
        self._leave = leave
        self._living: dict[int, Worker] = {}
        self._loaded: dict[str, Run] = {}

    def warm(self, kind: str) -> None:
        """Load what workers of a kind need, so that their start does not take long."""
        known = self._kinds[kind]
        if isinstance(known, Forked) and kind not in self._loaded:
            self._loaded[kind] = known.load()
            # What is here by now is in every worker: no collection shall write to its pages.
            gc.collect()
            gc.freeze()

    def living(self) -> list[Worker]:
        """All workers, the oldest first."""
        return list(self._living.values())

    def lives(self, pid: int) -> bool:
        """Whether there is such a worker."""
        return pid in self._living

    def start(self, kind: str, name: str, heap: int) -> Worker:
        """Start a worker; one that is a program may not listen yet.

        Raises:
            errors.Error: there is no such kind, or it cannot be started.
        """
        known = self._kinds.get(kind)
        if known is None:
            there = ", ".join(sorted(self._kinds))
            raise errors.BadRequest(
                "zygote", f"{kind!r:.80} is no kind of worker; there are {there}"
            )
        path = self._folder / f"{os.urandom(4).hex()}.sock"
        try:
            if isinstance(known, Forked):
                pid = self._fork(kind, path)
            else:
                pid = self._execute(known, path, heap)
        except OSError as exc:
            path.unlink(missing_ok=True)
            raise errors.Unavailable(
                "zygote", f"a worker cannot be started: {exc.strerror}"
            ) from None
        worker = Worker(pid, kind, name, str(path), heap, time.time())
        self._living[pid] = worker
        return worker

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a worker; one that has ended is no error.

        Raises:
            errors.BadRequest: that is no signal.
        """
        # Until it has been reaped here, no other process gets its number.
        if pid in self._living:
            try:
                os.kill(pid, number)
            except (OSError, OverflowError):
                raise errors.BadRequest("zygote", f"{number} is no signal") from None

    def reap(self) -> list[Exit]:
        """Those that have ended since the last time."""
        ended: list[Exit] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if worker := self._living.pop(pid, None):
                Path(worker.socket).unlink(missing_ok=True)
                ended.append(Exit(pid, os.waitstatus_to_exitcode(status)))

    def kill(self) -> None:
        """End all of them."""
        for pid, worker in self._living.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            Path(worker.socket).unlink(missing_ok=True)

    def _fork(self, kind: str, path: Path) -> int:
        self.warm(kind)
        run = self._loaded[kind]
        with _listening(path) as listener, _undisturbed():
            parent = os.getpid()
            if pid := os.fork():
                return pid
            # From here on a worker. Nothing it does may get back into the loop of the zygote.
            code = 1
            try:
                self._leave()
                _become(parent, kind)
                _close_all_but(listener.fileno())
                os.environ.clear()
                run(listener)
                code = 0
            except BaseException:  # noqa: BLE001 - it has nowhere to go
                traceback.print_exc()
            finally:
                _end(code)

    def _execute(self, kind: Executed, path: Path, heap: int) -> int:
        argv, env = kind.command(path, heap)
        with _undisturbed():
            return self._run(argv, env)

    def _run(self, argv: list[str], env: dict[str, str]) -> int:
        parent = os.getpid()
        if pid := os.fork():
            return pid
        code = 127
        try:
            os.umask(0o077)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            _become(parent, "")
            _close_all_but(-1)
            os.execve(argv[0], argv, env)
        except BaseException:  # noqa: BLE001 - it has nowhere to go
            traceback.print_exc()
        finally:
            _end(code)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket that only this user may open."""
    with socket.socket(socket.AF_UNIX) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
        yield listener


_SIGNALS = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold signals back: a worker would lose one that comes before it takes its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _become(parent: int, kind: str) -> None:
    """Be a worker: die with the zygote, and take signals as any program does."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _libc.prctl(_PR_SET_NAME, f"micro-{kind}".encode())
        # The parent may have died before the request was made.
        if os.getppid() != parent:
            os._exit(1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    # A core would have the secrets of functions in it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _close_all_but(descriptor: int) -> None:
    """Close what this process inherited, but one and the standard three."""
    most = os.sysconf("SC_OPEN_MAX")
    if descriptor < 0:
        os.closerange(3, most)
        return
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, most)


def _end(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
