"""Landlock: which files, TCP ports and processes outside this one reaches."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .names import Missing
from .process import LINUX, libc

# The same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2

EXECUTE = 1 << 0
WRITE = 1 << 1
READ = 1 << 2
LIST = 1 << 3
_REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
MAKE_SOCKET = 1 << 9
_MAKE_SYM = 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_IOCTL_DEVICE = 1 << 15

LOOK = READ | LIST
"""Files are read, folders listed."""

KEEP = (LOOK | WRITE | _REMOVE_DIR | REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM) | (
    _REFER | _TRUNCATE
)
"""Files are made, changed and removed, as in a folder of one's own."""

_OF_FILES = EXECUTE | WRITE | READ | _TRUNCATE | _IOCTL_DEVICE

_BIND_TCP, CONNECT_TCP = 1, 2
_SCOPES = 3

_TCP_ABI, _SCOPES_ABI = 4, 6
_RIGHTS = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


class _PortRule(ctypes.Structure):
    _fields_ = (("rights", ctypes.c_uint64), ("port", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Reach:
    """What a process still reaches.

    Attributes:
        files: rights by paths; what is not there is left out.
        ports: of TCP that may be connected to; None are all.
    """

    files: tuple[tuple[str, int], ...] = ()
    ports: frozenset[int] | None = frozenset()


def abi() -> int:
    """The version of Landlock that this kernel has; 0 is none."""
    if not LINUX:
        return 0
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def lacking(version: int) -> dict[str, str]:
    """The walls that a version does not have, and why."""
    if not LINUX:
        why = f"{sys.platform} has no Landlock"
    elif not version:
        why = _absence()
    else:
        why = f"this kernel's Landlock has version {version}"
    needs = {
        "landlock.files": (1, ""),
        "landlock.tcp": (_TCP_ABI, f" and ports need {_TCP_ABI}, as Linux 6.7 has it"),
        "landlock.scopes": (_SCOPES_ABI, f" and scopes need {_SCOPES_ABI}, as Linux 6.12 has it"),
    }
    return {
        name: why + (more if version else "")
        for name, (least, more) in needs.items()
        if version < least
    }


def _absence() -> str:
    # The call was made just now, by who asks.
    number = ctypes.get_errno()
    if number == errno.EOPNOTSUPP:
        return "Landlock is switched off: boot with landlock among the lsm="
    return f"this kernel has no Landlock: {os.strerror(number)}"


def close_in(reach: Reach, without: Collection[str] = ()) -> None:
    """Let this thread, and what it starts, reach no more than that.

    Args:
        reach: what it still reaches.
        without: walls that may be missing.

    Raises:
        Missing: this kernel does not have one of the three.
    """
    version = abi()
    missing = lacking(version)
    for name, why in missing.items():
        if name not in without:
            raise Missing(name, why)
    if not version:
        return
    handled = sum(rights for since, rights in _RIGHTS.items() if since <= version)
    net = 0
    if "landlock.tcp" not in missing:
        net = _BIND_TCP | (CONNECT_TCP if reach.ports is not None else 0)
    scoped = 0 if "landlock.scopes" in missing else _SCOPES
    attributes = _Ruleset(handled, net, scoped)
    try:
        ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0, 0)
        try:
            _allow_files(ruleset, handled, reach.files)
            if net & CONNECT_TCP:
                _allow_ports(ruleset, reach.ports or ())
            _call(_RESTRICT_SELF, ruleset, 0, 0, 0)
        finally:
            os.close(ruleset)
    except OSError as exc:
        raise Missing("landlock.files", f"Landlock: {exc.strerror}") from None


def _allow_files(ruleset: int, handled: int, files: Iterable[tuple[str, int]]) -> None:
    for path, wanted in files:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            of = handled if stat.S_ISDIR(os.fstat(descriptor).st_mode) else handled & _OF_FILES
            if rights := wanted & of:
                rule = _PathRule(rights, descriptor)
                _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)


def _allow_ports(ruleset: int, ports: Iterable[int]) -> None:
    for port in ports:
        rule = _PortRule(CONNECT_TCP, port)
        _call(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(rule), 0)


def _call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_size_t(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(number, *wide))
    if result < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return result


def program(path: str | Path) -> tuple[tuple[str, int], ...]:
    """What has to be reached to run a program: itself, what loads it, and the system's libraries.

    Raises:
        OSError: it cannot be read.
    """
    real = os.path.realpath(path)
    loader = interpreter(real)
    # A link may be the only name that others know it by; both lead to the same file.
    return ((real, READ | EXECUTE), *(((loader, READ | EXECUTE),) if loader else ()), *LIBRARIES)


LIBRARIES: tuple[tuple[str, int], ...] = tuple(
    (path, READ)
    for path in (
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
        *("/etc/ld.so.cache", "/etc/ld.so.preload"),
    )
)
"""Where the system's libraries are: to be read, and not to be run."""

_ELF, _SEGMENT = b"\x7fELF\x02\x01", 56
_INTERPRETER = 3


def interpreter(path: str) -> str:
    """The program that loads another one; empty if it needs none, or is no program of 64 bits.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(64)
        if not head.startswith(_ELF):
            return ""
        file.seek(int.from_bytes(head[32:40], "little"))
        count = int.from_bytes(head[56:58], "little")
        for _ in range(count):
            segment = file.read(_SEGMENT)
            if int.from_bytes(segment[:4], "little") == _INTERPRETER:
                file.seek(int.from_bytes(segment[8:16], "little"))
                name = file.read(int.from_bytes(segment[32:40], "little"))
                return name.rstrip(b"\0").decode()
    return ""


def folder(path: str | Path, rights: int = KEEP) -> tuple[str, int]:
    """A folder, by where it really is."""
    return os.path.realpath(path), rights
