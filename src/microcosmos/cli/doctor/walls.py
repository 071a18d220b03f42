"""The walls that a machine has to keep programs apart: functions are run within them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from microcosmos.base import codec
from microcosmos.functions.walls import report as left
from microcosmos.functions.walls.names import VARIABLE, Measured

from .finding import LIMIT, Report, Subject

_CONTROLLERS = {"cpu", "memory", "pids"}
_NAMESPACES = ("ipc", "mnt", "net", "pid", "user")


def walls(subject: Subject, report: Report) -> None:
    """What closes functions in: as the server that runs has measured it, else measured now."""
    measured = left.left(subject.home) if subject.home.server_info() else None
    if measured is None:
        measured = _measured(subject, report)
    if measured is None:
        return
    said = f"walls of functions: {measured.told}"
    if measured.refusal:
        _, _, advice = measured.refusal.partition("; ")
        report.fail(said, advice)
    elif measured.missing:
        report.warn(said, "code that you do not trust is better run on a system that has them")
    else:
        report.ok(said)


def _measured(subject: Subject, report: Report) -> Measured | None:
    """As a server would measure it: in a process of one thread."""
    command = [sys.executable, "-P", "-m", left.__package__ or "", "--json"]
    environ = {**os.environ, VARIABLE: subject.environ.get(VARIABLE, "")}
    done = subprocess.run(command, capture_output=True, env=environ, timeout=LIMIT, check=False)
    try:
        return msgspec.json.decode(done.stdout, type=Measured)
    except codec.DECODE_ERRORS:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        report.fail(f"walls of functions could not be measured: {said}", "see that it runs")
        return None


def more(_: Subject, report: Report) -> None:
    """Which further walls are there, that functions are not within today."""
    missing = {
        "namespaces": _namespaces(report),
        "cgroup v2 (CPU and memory)": _cgroup(report),
    }
    names = [name for name, there in missing.items() if not there]
    if names:
        advice = "code that you do not trust is better run on a Linux that has them"
        report.warn(f"walls missing here: {', '.join(names)}", advice)


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


CHECKS = (("walls", walls), ("namespaces", more))
