"""System calls by what they are for. What is not among those of a profile fails with EPERM.

Calls that only one architecture has are named all the same: they are left out on the other.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Is(NamedTuple):
    """What an argument must be: these bits of it, or all."""

    argument: int
    value: int
    mask: int | None = None


Rule = tuple[Is, ...]
"""All of that together; nothing is any call."""


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls that are allowed.

    Attributes:
        rules: by name, of which one must hold.
    """

    rules: tuple[tuple[str, tuple[Rule, ...]], ...]

    def __or__(self, other: Calls) -> Calls:
        """Both."""
        mine = dict(self.rules)
        for name, rules in other.rules:
            had = mine.get(name, ())
            # A call that is allowed in any way needs no conditions beside that.
            mine[name] = ((),) if () in (*had, *rules) else (*had, *rules)
        return Calls(tuple(mine.items()))

    def __sub__(self, names: tuple[str, ...]) -> Calls:
        """All but these."""
        return Calls(tuple((name, rules) for name, rules in self.rules if name not in names))


def _any(names: str) -> Calls:
    return Calls(tuple((name, ((),)) for name in names.split()))


def _when(rules: Mapping[str, tuple[Rule, ...]]) -> Calls:
    return Calls(tuple(rules.items()))


def _one_of(argument: int, *values: int) -> tuple[Rule, ...]:
    return tuple((Is(argument, value),) for value in values)


REFUSALS: Mapping[str, int] = {
    # The C library goes on with an older call only if it hears that there is none.
    "clone3": errno.ENOSYS,
    "faccessat2": errno.ENOSYS,
    "openat2": errno.ENOSYS,
    "fchmodat2": errno.ENOSYS,
    "close_range": errno.ENOSYS,
    "epoll_pwait2": errno.ENOSYS,
    "pidfd_open": errno.ENOSYS,
}
"""Calls that fail otherwise than with EPERM where they are not allowed."""

_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x541B, 0x5421, 0x5450, 0x5451
_TCGETS, _TIOCGWINSZ = 0x5401, 0x5413
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_AT_EMPTY_PATH = 0x1000
_F_DUPFD_CLOEXEC = 1030
_F_OFD = (36, 37, 38)
_SOCKET_TYPE = 0xF
_SOCKET_FLAGS = 0xFFFFFFFF & ~_SOCKET_TYPE & ~(socket.SOCK_STREAM | socket.SOCK_DGRAM)

_CLONE_VM, _CLONE_VFORK, _CLONE_THREAD = 0x100, 0x4000, 0x10000
_CLONE_SPACES = 0x7E020080
"""A new namespace of any sort."""

_LOCAL = 1  # AF_UNIX, everywhere
_INET, _INET6 = 2, 10
_TCP, _UDP = 6, 17

MEMORY = _any("munmap mremap madvise brk") | _when(
    {
        "mmap": ((Is(2, 0, mmap.PROT_EXEC),),),
        "mprotect": ((Is(2, 0, mmap.PROT_EXEC),),),
    }
)
"""Memory, none of it to be run."""

COMPILING = _any("mmap mprotect pkey_alloc pkey_mprotect pkey_free")
"""Memory to be run: an engine that makes machine code."""

LIBRARIES = _when({"mmap": ((Is(3, 0, mmap.MAP_ANONYMOUS),),)})
"""Memory to be run that is a file: what loads programs and libraries."""

IMAGES = _any("memfd_create ftruncate pwrite64")
"""Files that are nothing but memory; none of them can be run."""

TIME = _any(
    "clock_gettime clock_getres clock_nanosleep gettimeofday nanosleep time times getrusage"
)

SELF = _any(
    "getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getpgrp uname"
    " getrandom sched_yield sched_getaffinity getcpu sysinfo getrlimit futex set_robust_list"
    " rseq membarrier rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit"
    " exit_group"
) | _when({"prlimit64": ((Is(0, 0), Is(2, 0)),)})
"""What a program asks of itself: who it is, locks, signal handlers; limits are only looked at."""

STREAMS = _any(
    "read write readv writev recvfrom recvmsg sendto sendmsg close shutdown accept accept4 listen"
    " getsockname getpeername getsockopt epoll_create1 epoll_ctl epoll_wait epoll_pwait poll ppoll"
    " select pselect6 eventfd2 pipe2 pipe fstat"
) | _when(
    {
        "socketpair": ((Is(0, _LOCAL), Is(1, socket.SOCK_STREAM, _SOCKET_TYPE)),),
        "ioctl": _one_of(1, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX, _TCGETS),
        "fcntl": _one_of(
            1,
            *(fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL),
            _F_DUPFD_CLOEXEC,
        ),
        # How the C library asks about an open file.
        "newfstatat": ((Is(3, _AT_EMPTY_PATH, _AT_EMPTY_PATH),),),
    }
)
"""Work on what is open, and waiting for it; new are only pipes, and pairs of local sockets."""

THREADS = _when(
    {
        "clone": ((Is(0, _CLONE_THREAD, _CLONE_THREAD | _CLONE_SPACES),),),
        "prctl": _one_of(0, _PR_SET_NAME, _PR_GET_NAME),
    }
) | _any("set_tid_address arch_prctl sched_getparam sched_getscheduler")
"""Threads, and no process."""

LOADING = _any("execve set_tid_address arch_prctl access faccessat pread64") | LIBRARIES
"""Being made another program: which one, Landlock says."""

FILES = _any(
    "open openat lseek pread64 pwrite64 stat lstat newfstatat statx fstatfs statfs access faccessat"
    " readlink readlinkat getcwd getdents64 dup dup2 dup3 fadvise64"
) | _when(
    {
        "fcntl": _one_of(1, fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW, *_F_OFD, fcntl.F_DUPFD),
        "ioctl": _one_of(1, _TIOCGWINSZ),
    }
)
"""Opening and looking at files: which ones, Landlock says."""

CUTTING = _any("ftruncate")
"""Cutting what is open."""

FOLDERS = _any(
    "creat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink"
    " symlinkat truncate ftruncate fallocate fsync fdatasync flock chdir fchdir umask fchmod fchown"
    " copy_file_range sendfile"
) | _when({"utimensat": ((Is(1, 0),),)})
"""Making, changing and removing files.

Landlock knows nothing of modes, owners and times: only those of what is open may be changed.
"""

PROCESSES = _when(
    {
        "clone": ((Is(0, 0, _CLONE_SPACES),),),
    }
) | _any(
    "fork vfork wait4 waitid kill tgkill pidfd_open pidfd_send_signal setpgid getpgid getsid setsid"
)
"""Programs of its own; signals reach only them, as Landlock has it."""

LISTENING = _any("bind") | _when(
    {"socket": ((Is(0, _LOCAL), Is(1, socket.SOCK_STREAM, _SOCKET_TYPE)),)}
)
"""Listening at a path."""


def _internet() -> Calls:
    kinds = ((socket.SOCK_STREAM, (0, _TCP)), (socket.SOCK_DGRAM, (0, _UDP)))
    # Not multipath TCP: Landlock knows nothing of its ports.
    sockets = tuple(
        (Is(0, family), Is(1, kind, _SOCKET_TYPE), Is(2, protocol))
        for family in (_INET, _INET6)
        for kind, protocols in kinds
        for protocol in protocols
    )
    options = {
        # TCP_NODELAY, KEEPIDLE, KEEPINTVL, KEEPCNT, QUICKACK, USER_TIMEOUT
        _TCP: (1, 4, 5, 6, 12, 18),
        # REUSEADDR, SNDBUF, RCVBUF, KEEPALIVE, LINGER, RCVTIMEO, SNDTIMEO
        1: (2, 7, 8, 9, 13, 20, 21, 66, 67),
        # IP_TOS, MTU_DISCOVER, RECVERR
        0: (1, 10, 11),
        # IPV6_MTU_DISCOVER, RECVERR, V6ONLY, TCLASS
        41: (23, 25, 26, 67),
    }
    told = tuple((Is(1, level), Is(2, name)) for level, names in options.items() for name in names)
    return _when({"socket": sockets, "setsockopt": told}) | _any("connect sendmmsg recvmmsg bind")


INTERNET = _internet()
"""TCP and UDP; of TCP which ports, Landlock says."""

LOCAL = _any("connect") | _when(
    {"socket": ((Is(0, _LOCAL), Is(1, socket.SOCK_STREAM, _SOCKET_TYPE)),)}
)
"""Local sockets of others."""
