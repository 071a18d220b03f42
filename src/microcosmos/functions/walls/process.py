"""What a process gives up of its own: privileges, environment, descriptors, limits."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from .names import Missing

LINUX = sys.platform == "linux"

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64
_SECCOMP_MODE_FILTER = 2

# Of others, systems have ideas of their own.
_EVERYWHERE = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)

# The bounds of the environment in /proc/self/stat, counted from after the name.
_ENV_START, _ENV_END = 47, 48

# Loaded here, not in a child: loading takes locks and memory.
libc = ctypes.CDLL(None, use_errno=True)
"""The C library; not for threads that were not begun here."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def prctl(option: int, *arguments: int) -> int:
    """The call of that name.

    Raises:
        OSError: as the kernel says.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    result = int(libc.prctl(option, *map(ctypes.c_ulong, padded)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def threads() -> int:
    """How many threads this process has; walls are entered by one alone."""
    return len(os.listdir("/proc/self/task")) if LINUX else 1  # noqa: PTH208


def give_up_privileges() -> None:
    """Have no program that is run from now on give more privileges than there are.

    Raises:
        Missing: the kernel cannot.
    """
    if not LINUX:
        raise Missing("privileges", f"{sys.platform} has no such wall")
    try:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError as exc:
        raise Missing("privileges", f"no_new_privs: {exc.strerror}") from None


def give_up_capabilities() -> None:
    """Have no capability, nor get one back.

    Raises:
        Missing: the kernel cannot.
    """
    if not LINUX:
        raise Missing("capabilities", f"{sys.platform} has no such wall")
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        for number in range(_MOST_CAPABILITIES):
            try:
                if prctl(_PR_CAPBSET_READ, number):
                    prctl(_PR_CAPBSET_DROP, number)
            except PermissionError:
                break  # who may not has none either
            except OSError:
                break  # that was the last that this kernel knows
        header = _Header(_CAPABILITY_VERSION, 0)
        nothing = (ctypes.c_uint32 * 6)()
        if libc.capset(ctypes.byref(header), nothing) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    except OSError as exc:
        raise Missing("capabilities", f"capset: {exc.strerror}") from None


def close_memory() -> None:
    """Let no other process of this user read the memory of this one, nor write it to a core.

    Raises:
        Missing: the kernel cannot.
    """
    if not LINUX:
        raise Missing("undumpable", f"{sys.platform} has no such wall")
    try:
        prctl(_PR_SET_DUMPABLE, 0)
    except OSError as exc:
        raise Missing("undumpable", f"PR_SET_DUMPABLE: {exc.strerror}") from None


def filter_calls(program: bytes) -> None:
    """Have each system call of this thread, and of what it starts, judged by a program of BPF.

    Raises:
        OSError: as the kernel says.
    """
    text = ctypes.create_string_buffer(program, len(program))
    told = _Program(len(program) // 8, ctypes.addressof(text))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(told))


def forget_environment() -> None:
    """Have no variables, in the memory of the process neither."""
    os.environ.clear()
    if not LINUX:
        return
    libc.clearenv()
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    except (OSError, IndexError, ValueError):
        return
    if start < end:
        ctypes.memset(start, 0, end - start)


def close_descriptors(kept: Collection[int]) -> None:
    """Close what is open, but these and the standard three."""
    most = os.sysconf("SC_OPEN_MAX")
    after = 3
    for descriptor in sorted({*kept} - {0, 1, 2}):
        os.closerange(after, descriptor)
        after = descriptor + 1
    os.closerange(after, most)


def limit(limits: Mapping[int, int]) -> None:
    """Let this process have only so much of each resource; never more than it had.

    Raises:
        Missing: the system refuses.
    """
    for kind, most in limits.items():
        if not LINUX and kind not in _EVERYWHERE:
            continue
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (least, least))
        except (OSError, ValueError) as exc:
            raise Missing("limits", f"setrlimit: {exc}") from None
