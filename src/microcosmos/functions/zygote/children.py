"""The workers of the zygote: made, signalled, reaped. None outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from microcosmos.base import errors
from microcosmos.base.home import WORKERS
from microcosmos.functions import page as pages
from microcosmos.functions.page import Page, Running
from microcosmos.functions.walls import Measured, Profile, enter, leave_all, prepare

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
        hear: takes the end of a pipe, on which a new worker complains.
        walls: those that are there to close workers in.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        folder: Path,
        leave: Callable[[], None],
        hear: Callable[[int], None],
        walls: Measured,
    ) -> None:
        self._kinds = kinds
        self._folder = folder
        self._leave = leave
        self._hear = hear
        self._walls = walls
        self._living: dict[int, Worker] = {}
        self._pages: dict[int, Page] = {}
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
        if known.within is not None and (refusal := self._walls.refusal):
            raise errors.Unavailable("functions.walls", refusal)
        path = self._folder / f"{os.urandom(4).hex()}.sock"
        heard, complaints = os.pipe()
        try:
            if isinstance(known, Forked):
                pid = self._fork(kind, known, path, complaints)
            else:
                # It makes its socket itself, and so may reach the folder: one of its own.
                path = path.with_suffix(WORKERS) / "s"
                path.parent.mkdir(mode=0o700)
                pid = self._execute(known, path, heap, complaints)
        except BaseException as exc:
            os.close(heard)
            self._remove(path)
            if not isinstance(exc, OSError):
                raise
            raise errors.Unavailable(
                "zygote", f"a worker cannot be started: {exc.strerror}"
            ) from None
        finally:
            os.close(complaints)
        self._hear(heard)
        if isinstance(known, Executed):
            known.started()
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

    def running(self, pid: int) -> Running:
        """What a worker runs, if it tells."""
        page = self._pages.get(pid)
        return Running() if page is None else page.read()

    def reap(self) -> list[Exit]:
        """Those that have ended since the last time."""
        ended: list[Exit] = []
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if worker := self._living.pop(pid, None):
                self._remove(Path(worker.socket))
                running, cpu = self.running(pid), used.ru_utime + used.ru_stime
                if page := self._pages.pop(pid, None):
                    page.close()
                ended.append(Exit(pid, os.waitstatus_to_exitcode(status), running, cpu))

    def kill(self) -> None:
        """End all of them."""
        for pid, worker in self._living.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._remove(Path(worker.socket))

    def _remove(self, socket: Path) -> None:
        """Take away the socket of a worker that has ended, or whatever it has made in its place."""
        if socket.parent == self._folder:
            socket.unlink(missing_ok=True)
        else:
            shutil.rmtree(socket.parent, ignore_errors=True)

    def _fork(self, kind: str, known: Forked, path: Path, complaints: int) -> int:
        self.warm(kind)
        run = self._loaded[kind]
        profile = self._within(known, path)
        with _listening(path) as listener, _undisturbed():
            parent, page = os.getpid(), pages.shared()
            if pid := os.fork():
                self._pages[pid] = page
                return pid
            # From here on a worker. Nothing it does may get back into the loop of the zygote.
            code = 1
            try:
                self._leave()
                self._turn_to(page)
                _become(parent, kind, complaints)
                kept = known.before(frozenset(self._walls.allowed))
                self._close_in(profile, listener.fileno(), *kept)
                run(listener)
                code = 0
            except BaseException:  # noqa: BLE001 - it has nowhere to go
                traceback.print_exc()
            finally:
                _end(code)

    def _turn_to(self, page: Page) -> None:
        """In a worker: have its own page, and nobody else's."""
        for other in self._pages.values():
            other.close()
        pages.take(page)

    def _within(self, known: Kind, path: Path) -> Profile | None:
        """What a worker may do; what takes long is done here, and once."""
        if known.within is None:
            return None
        profile = known.within(path.parent)
        prepare(profile)
        return profile

    def _close_in(self, profile: Profile | None, *descriptors: int) -> None:
        """In a worker: keep nothing of the zygote's, and raise the walls."""
        if profile is None:
            leave_all(descriptors)
        else:
            enter(profile, descriptors=descriptors, missing=self._walls.allowed)

    def _execute(self, known: Executed, path: Path, heap: int, complaints: int) -> int:
        argv, env = known.command(path, heap)
        profile = self._within(known, path)
        with _undisturbed():
            return self._run(argv, env, profile, complaints)

    def _run(
        self, argv: list[str], env: dict[str, str], profile: Profile | None, complaints: int
    ) -> int:
        parent = os.getpid()
        if pid := os.fork():
            return pid
        code = 127
        try:
            # As for sockets that are made here: open to this user only.
            os.umask(0o177)
            _become(parent, "", complaints)
            self._close_in(profile)
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


def _become(parent: int, kind: str, complaints: int) -> None:
    """Be a worker: die with the zygote, take signals as any program does, complain to a pipe."""
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
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard, descriptor in enumerate((nothing, nothing, complaints)):
        os.dup2(descriptor, standard)
    os.chdir("/")


def _end(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
