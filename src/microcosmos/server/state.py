"""Where a server keeps its state: in its home, or for as long as it runs in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.base.profiles import Profile

_MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def kept(home: Home, profile: Profile) -> Iterator[None]:
    """See that a home's state is where the profile wants it while the block runs.

    Of a profile that keeps it in memory nothing is read of the home, and nothing is left after
    the block but the logs of one that failed; what was left before is removed first. Who enters
    holds the lock.

    Raises:
        errors.Forbidden: another user has taken the place.
    """
    if profile.state != "memory":
        yield
        return
    folder, before = _folder(home), home.server
    _remove(folder)
    try:
        # First and alone: whose folder it is was settled before anything is written into it.
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise _taken(folder) from None
    home.server = folder
    try:
        home.make()
        yield
    except errors.Error:
        # What could not start has told where its log is: that stays until the next start.
        _remove(folder, but=home.logs)
        raise
    except BaseException:
        _remove(folder)
        raise
    else:
        _remove(folder)
    finally:
        home.server = before


def _folder(home: Home) -> Path:
    """A folder in memory, where the system has one, else among the temporary ones."""
    digest = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:12]
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    return place / f"micro-state-{os.getuid()}-{digest}"


def _remove(folder: Path, but: Path | None = None) -> None:
    try:
        about = folder.lstat()
    except FileNotFoundError:
        return
    if about.st_uid != os.getuid() or folder.is_symlink():
        raise _taken(folder)
    if but is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir() and path != but:
            shutil.rmtree(path, ignore_errors=True)


def _taken(folder: Path) -> errors.Forbidden:
    return errors.Forbidden("server.state", f"{folder} belongs to another user; remove it")
