"""The lock on a home: one server at a time, however the last one ended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from microcosmos.base import errors
from microcosmos.base.home import Home


class HomeLock:
    """Held while the block runs; the kernel lets go of it when the process ends, in any way.

    The descriptor closes on exec, so children do not hold it.

    Raises:
        errors.Conflict: on entering, another server runs on this home; the detail names it.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.running / "lock"
        self._descriptor = -1

    def __enter__(self) -> HomeLock:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._taken() from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: removing it would let two servers lock two files of one name.
        os.close(self._descriptor)

    def _taken(self) -> errors.Conflict:
        holder = _holder(self._path)
        named = f" (PID {holder})" if holder else ""
        return errors.Conflict(
            "server",
            f"a server is running already on {self._home.path}{named}; "
            "stop it with `micro stop`, or give this one another MICRO_HOME",
        )


def _holder(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
