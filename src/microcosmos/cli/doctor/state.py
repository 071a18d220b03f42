"""The MICRO_HOME: whether it can be written, is private, and has room."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from microcosmos.base.home import Home

from .finding import Report, Subject

LOW_SPACE = 1024 * 1024 * 1024
"""Bytes on the disk below which there is a warning."""

NO_SPACE = 64 * 1024 * 1024
"""Bytes on the disk below which a server cannot go on."""

LOW_NODES = 1_000
"""Free inodes below which there is a warning."""

SKEW = 60.0
"""Seconds by which a file system's clock may differ from this machine's."""

_SAMPLE = 64 * 1024
_MIB = 1024 * 1024
_LOST = {"tmpfs", "ramfs"}
_SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"}


def home(subject: Subject, report: Report) -> None:
    """Whether files can be written there."""
    path = subject.home.path
    try:
        if not path.exists():
            _to_be_made(path, report)
            return
        written = _write(path)
    except OSError as exc:
        why = exc.strerror or str(exc)
        report.fail(f"{path} cannot be written: {why}", "mend that, or set MICRO_HOME elsewhere")
        return
    if abs(written - time.time()) > SKEW:
        report.warn(f"files in {path} get another time than this clock's", "set both clocks (NTP)")
    report.ok(f"{path} can be written")


def _to_be_made(path: Path, report: Report) -> None:
    above = _existing(path)
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        report.ok(f"{path} is made by the first server")
    else:
        report.fail(f"{path} cannot be made in {above}", "set MICRO_HOME to another folder")


def _write(folder: Path) -> float:
    """Write a file, as a server would, and remove it; when it was written."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.") as file:
        file.write(bytes(_SAMPLE))
        file.flush()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_mtime


def disk(subject: Subject, report: Report) -> None:
    """What kind of disk it is on, and how much of it is free."""
    place = _existing(subject.home.path)
    kind = file_system(place)
    if kind in _LOST:
        report.warn(
            f"{place} is on {kind}: it is lost when the machine stops", "set MICRO_HOME to a disk"
        )
    elif kind in _SHARED:
        report.warn(
            f"{place} is on {kind}: locks and databases may break there", "use a disk of this host"
        )
    elif kind:
        report.ok(f"{place} is on {kind}")
    free = shutil.disk_usage(place).free
    shown = f"{free // _MIB:,} MiB are free on the disk of {place}"
    if free < NO_SPACE:
        report.fail(shown, "make room; `micro reset` removes everything")
    elif free < LOW_SPACE:
        report.warn(shown, "make room")
    else:
        report.ok(shown)
    nodes = os.statvfs(place)
    if nodes.f_files and nodes.f_favail < LOW_NODES:
        report.warn(f"{nodes.f_favail:,} inodes are free on that disk", "remove some files")


def file_system(path: Path) -> str:
    """The kind of file system a path is on; empty where that cannot be told."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    resolved, longest, kind = path.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].encode().decode("unicode_escape"))
        # The last one that is mounted on a place is the one that is seen.
        if resolved.is_relative_to(mount) and len(mount.parts) >= longest:
            longest, kind = len(mount.parts), after.split()[0]
    return kind


def privacy(subject: Subject, report: Report) -> None:
    """Whether keys, tokens and settings can be read by this user only."""
    files = list(_private(subject.home))
    wrong = [file for file in files if _open_to_others(file)]
    for file in wrong:
        report.fail(f"{file} is open to other users", f"chmod go= {file}")
    foreign = [file for file in files if _owner(file) not in (os.geteuid(), -1)]
    for file in foreign:
        report.fail(f"{file} belongs to another user", "chown it, or run micro as its owner")
    if files and not wrong and not foreign:
        report.ok(f"keys and settings are private ({len(files)} files)")


def _private(home: Home) -> Iterator[Path]:
    keys = home.server / "keys"
    yield from (path for path in (home.path, keys) if path.is_dir())
    yield from sorted(path for path in keys.rglob("*") if path.is_file())
    named = ("config.json", "tokens", "config_secret_key", "cli_history")
    yield from (path for name in named if (path := home.path / name).exists())


def _open_to_others(path: Path) -> bool:
    others = stat.S_IRWXG | stat.S_IRWXO
    # To look at the names in the home is no harm: its files are closed.
    harmless = stat.S_IXGRP | stat.S_IXOTH | stat.S_IRGRP | stat.S_IROTH if path.is_dir() else 0
    try:
        return bool(path.stat().st_mode & others & ~harmless)
    except OSError:
        return False


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


def sockets(subject: Subject, report: Report) -> None:
    """Whether the paths of the sockets are short enough."""
    lanes = subject.home.lanes
    if lanes.is_relative_to(subject.home.path):
        report.ok(f"sockets are in {lanes}")
        return
    if lanes.exists() and _owner(lanes) not in (os.geteuid(), -1):
        report.fail(f"{lanes} belongs to another user", "remove it, or use a shorter MICRO_HOME")
        return
    size = len(os.fsencode(subject.home.path / "lanes"))
    report.ok(f"sockets are in {lanes}: the path of MICRO_HOME is too long for them ({size} bytes)")


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


CHECKS = (
    ("home", home),
    ("disk", disk),
    ("privacy", privacy),
    ("sockets", sockets),
)
