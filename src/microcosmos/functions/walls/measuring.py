"""What this system really enforces: for each wall a process tries what it is to stop."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Collection

from . import landlock, process, profiles, seccomp
from .landlock import Reach
from .names import WALLS, Measured, Missing, Wall

_PR_GET_DUMPABLE, _PR_GET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 3, 39, 24
_WHY = 1000


def measure(allowed: Collection[str] = ()) -> Measured:
    """Try every wall, each in a process that is forked off for it; takes some milliseconds.

    To be called where there is one thread.

    Args:
        allowed: those that may be missing.
    """
    with _abstract() as name:
        trials: dict[str, Callable[[int], None]] = {
            "privileges": _privileges,
            "capabilities": _capabilities,
            "landlock.files": _files,
            "landlock.tcp": _tcp,
            "landlock.scopes": lambda _: _scopes(name),
            "seccomp": _seccomp,
            "limits": _limits,
            "undumpable": _undumpable,
            "environment": _environment,
            "descriptors": _descriptors,
        }
        # What a child would do again is done once, and here.
        with contextlib.suppress(Missing):
            seccomp.program(profiles.quickjs().calls)
        running = [(name, *_begin(trials[name])) for name in WALLS]
        walls = [_end(*one) for one in running]
    return Measured(walls, sorted(allowed))


def _begin(trial: Callable[[int], None]) -> tuple[int, int]:
    """A process that tries; its number, and where it says what was not stopped."""
    parent = os.getpid()
    mine, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        return pid, mine
    code = 1
    try:
        said = ""
        try:
            trial(theirs)
        except Missing as missing:
            said = missing.why
        except Exception as exc:  # noqa: BLE001 - it is what there is to say
            said = f"{type(exc).__name__}: {exc}"
        if said:
            os.write(theirs, said.encode(errors="replace")[:_WHY])
        code = 0
    finally:
        # Whatever happens, there is one of what called.
        if os.getpid() != parent:
            os._exit(code)
    return 0, mine


def _end(name: str, pid: int, where: int) -> Wall:
    with os.fdopen(where, "rb") as file:
        said = file.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if not said and status:
        said = f"a process that tried it ended with status {os.waitstatus_to_exitcode(status)}"
    return Wall(name, not said, said)


@contextlib.contextmanager
def _abstract():  # type: ignore[no-untyped-def]
    """An abstract socket of this process, to be connected to; its name."""
    name = b"\0micro-walls-" + os.urandom(8).hex().encode()
    with socket.socket(socket.AF_UNIX) as listener:
        if process.LINUX:
            listener.bind(name)
            listener.listen(1)
        yield name


def _stopped(wall: str, what: str, attempt: Callable[[], object], *expected: int) -> None:
    """See that an attempt fails as it does at a wall."""
    try:
        attempt()
    except OSError as exc:
        if exc.errno in expected:
            return
        raise Missing(wall, f"{what} failed with {exc.strerror}") from None
    raise Missing(wall, f"{what} was not stopped")


def _privileges(_: int) -> None:
    process.give_up_privileges()
    if process.prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise Missing("privileges", "no_new_privs does not stay set")


def _capabilities(_: int) -> None:
    process.give_up_capabilities()
    # Of what only root may do this harms nobody.
    _stopped(
        *("capabilities", "what needs a capability"),
        lambda: process.prctl(_PR_CAPBSET_DROP, 0),
        errno.EPERM,
    )


def _files(_: int) -> None:
    _look()
    _within("landlock.files")
    _stopped("landlock.files", "opening a folder", _look, errno.EACCES)


def _look() -> None:
    os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))


def _tcp(_: int) -> None:
    with socket.socket() as one:
        _within("landlock.tcp")
        _stopped("landlock.tcp", "listening", lambda: one.bind(("127.0.0.1", 0)), errno.EACCES)
        # Nobody listens there; who may try hears so.
        _stopped("landlock.tcp", "connecting", lambda: one.connect(("127.0.0.1", 1)), errno.EACCES)


def _scopes(name: bytes) -> None:
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as before, socket.socket(socket.AF_UNIX) as after:
        os.kill(parent, 0)
        if process.LINUX:
            before.connect(name)
        _within("landlock.scopes")
        _stopped("landlock.scopes", "a signal", lambda: os.kill(parent, 0), errno.EPERM)
        _stopped("landlock.scopes", "a socket", lambda: after.connect(name), errno.EPERM)


def _within(wall: str) -> None:
    process.give_up_privileges()
    landlock.close_in(Reach(), set(WALLS) - {wall})


def _seccomp(_: int) -> None:
    os.getpriority(os.PRIO_PROCESS, 0)
    process.give_up_privileges()
    seccomp.filter_calls(profiles.quickjs().calls)
    for what, attempt in (
        ("a system call", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
        ("a socket", socket.socket),
    ):
        _stopped("seccomp", what, attempt, errno.EPERM)


def _limits(_: int) -> None:
    process.limit({resource.RLIMIT_NOFILE: 64, resource.RLIMIT_FSIZE: 0})
    _stopped("limits", "one descriptor too many", lambda: os.dup2(0, 64), errno.EBADF)
    if process.LINUX:
        file = os.memfd_create("micro")
        _stopped("limits", "a written file", lambda: os.write(file, b"x"), errno.EFBIG)


def _undumpable(_: int) -> None:
    process.close_memory()
    if process.prctl(_PR_GET_DUMPABLE) != 0:
        raise Missing("undumpable", "PR_SET_DUMPABLE does not stay set")


def _environment(_: int) -> None:
    process.forget_environment()
    left = b""
    if process.LINUX:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - as short as it gets
            left = file.read().strip(b"\0")
    if left or os.environ:
        raise Missing("environment", "variables are left")


def _descriptors(said: int) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    process.close_descriptors((said,))
    _stopped("descriptors", "an open file", lambda: os.fstat(descriptor), errno.EBADF)
