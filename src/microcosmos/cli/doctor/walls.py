"""The walls that a machine has to keep programs apart: functions are run within them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from .finding import Report, Subject

_LANDLOCK_CREATE_RULESET = 444
_VERSION_FLAG = 1
_CONTROLLERS = {"cpu", "memory", "pids"}
_NAMESPACES = ("ipc", "mnt", "net", "pid", "user")


def walls(_: Subject, report: Report) -> None:
    """Which walls are there; those that are missing are named."""
    missing = {
        "Landlock (files)": _landlock(report),
        "seccomp (system calls)": _seccomp(report),
        "namespaces": _namespaces(report),
        "cgroup v2 (CPU and memory)": _cgroup(report),
    }
    names = [name for name, there in missing.items() if not there]
    if names:
        advice = "code that you do not trust is better run on a Linux that has them"
        report.warn(f"walls missing here: {', '.join(names)}", advice)


def _landlock(report: Report) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    abi = ctypes.CDLL(None, use_errno=True).syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)
    )
    if abi > 0:
        report.ok(f"Landlock ABI {abi}")
    return bool(abi > 0)


def _seccomp(report: Report) -> bool:
    there = "kill_process" in _text("/proc/sys/kernel/seccomp/actions_avail").split()
    if there:
        report.ok("seccomp filters")
    return there


def _namespaces(report: Report) -> bool:
    there = [name for name in _NAMESPACES if Path(f"/proc/self/ns/{name}").exists()]
    if len(there) < len(_NAMESPACES):
        return False
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not root and (
        _text("/proc/sys/user/max_user_namespaces") == "0"
        or _text("/proc/sys/kernel/unprivileged_userns_clone") == "0"
        or _text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
    ):
        return False
    report.ok(f"namespaces: {', '.join(there)}")
    return True


def _cgroup(report: Report) -> bool:
    controllers = set(_text("/sys/fs/cgroup/cgroup.controllers").split())
    if not controllers >= _CONTROLLERS:
        return False
    report.ok(f"cgroup v2: {', '.join(sorted(_CONTROLLERS))}")
    return True


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


CHECKS = (("walls", walls),)
