"""A folder of source as a sorted list of its files: what is packed, hashed and checked."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from microcosmos.base import errors

from .ignore import Ignore

MAX_SIZE = 100 * 1024 * 1024
"""The most bytes that a service's source may have, unpacked."""

MAX_FILES = 10_000
"""The most files that a service's source may have."""

_ID = "runtime.folder"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file or symbolic link of a folder.

    Attributes:
        name: the path below the folder, with ``/``.
        path: where it is.
        executable: whether its owner may run it; of the mode nothing else is kept.
        size: in bytes; 0 for a link.
        target: where a link points, else empty.
    """

    name: str
    path: Path
    executable: bool = False
    size: int = 0
    target: str = ""


def entries(folder: Path, *, honour_ignore: bool = True) -> list[Entry]:
    """Every file and link below a folder, sorted by name; sockets, pipes and devices are skipped.

    Args:
        folder: where to look.
        honour_ignore: leave out what `.gitignore` and `ignore.ALWAYS` say; else only ``.git``.

    Raises:
        errors.BadRequest: a link leaves the folder, or a name or file cannot be read.
        errors.TooLarge: more than `MAX_SIZE` bytes or `MAX_FILES` files.
    """
    ignore = Ignore(folder) if honour_ignore else None
    found: list[Entry] = []
    size = 0
    try:
        for entry in _walk(folder, "", ignore):
            found.append(entry)
            size += entry.size
            check_limits(len(found), size)
    except OSError as exc:
        raise errors.BadRequest(_ID, f"{exc.filename}: {exc.strerror}") from None
    return sorted(found, key=lambda entry: entry.name)


def check_limits(files: int, size: int) -> None:
    """Refuse a source over the published limits.

    Raises:
        errors.TooLarge: it is; the detail says what to do.
    """
    way_out = "list what the service does not need in .gitignore"
    if size > MAX_SIZE:
        limit = MAX_SIZE // (1024 * 1024)
        raise errors.TooLarge(_ID, f"the source has more than {limit} MiB: {way_out}")
    if files > MAX_FILES:
        raise errors.TooLarge(_ID, f"the source has more than {MAX_FILES} files: {way_out}")


def leaves(name: str, target: str) -> bool:
    """Whether a link may lead out of its folder.

    Only ``..`` parts at the front are trusted: after a name they may pass through another link.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return target.startswith("/") or ".." in parts[up:] or up > name.count("/") or "\0" in target


def content_hash(found: list[Entry]) -> str:
    """SHA-256 over the sorted names, modes and contents: equal folders have equal hashes."""
    digest = hashlib.sha256()
    for entry in sorted(found, key=lambda entry: entry.name):
        kind = "link" if entry.target else "run" if entry.executable else "file"
        content = _digest(entry)
        for part in (entry.name, kind, content):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _digest(entry: Entry) -> str:
    if entry.target:
        return hashlib.sha256(entry.target.encode()).hexdigest()
    with entry.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(folder: Path, prefix: str, ignore: Ignore | None) -> Iterator[Entry]:
    with os.scandir(folder) as listing:
        inside = list(listing)
    for item in inside:
        name = prefix + item.name
        _check_name(name)
        below = item.is_dir(follow_symlinks=False)
        if item.name == ".git" or (ignore and ignore.leaves_out(f"{name}/" if below else name)):
            continue
        if below:
            yield from _walk(Path(item.path), f"{name}/", ignore)
        elif item.is_symlink():
            yield _link(name, Path(item.path))
        elif item.is_file():
            status = item.stat()
            runs = bool(status.st_mode & stat.S_IXUSR)
            yield Entry(name=name, path=Path(item.path), executable=runs, size=status.st_size)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "replace").decode()
        raise errors.BadRequest(_ID, f"{shown}: the file's name is not UTF-8; rename it") from None


def _link(name: str, path: Path) -> Entry:
    target = str(path.readlink())
    _check_name(target)
    if leaves(name, target):
        raise errors.BadRequest(
            _ID, f"{name} is a link that leaves the folder (to {target}): copy the file instead"
        )
    return Entry(name=name, path=path, target=target)
