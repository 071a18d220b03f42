"""What Deno keeps of its worker's scripts, compiled: made once, by itself, and read by workers.

A worker may write nothing, least of all what others run. So a Deno that is given no function makes
it: ``python -m microcosmos.functions.deno.warming FOLDER``. Without it a worker starts, only later.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from microcosmos.base import errors

from .command import LEAST_HEAP, SCRIPTS, binary, command

_TIME = 10.0
_POLL = 0.01
_CODE = "v8_code_cache_v2-wal"
_STILL = 0.2


@functools.cache
def place(folder: Path) -> Path:
    """Where it is kept, of this Deno and these scripts.

    Raises:
        errors.Unavailable: Deno is not installed.
    """
    seen = Path(binary()).stat()
    digest = hashlib.sha256(f"{binary()} {seen.st_size} {seen.st_mtime_ns}".encode())
    for script in sorted(SCRIPTS.iterdir()):
        digest.update(script.name.encode() + script.read_bytes())
    return folder / digest.hexdigest()[:16]


def warm(folder: Path) -> bool:
    """Make it; False if Deno did not start."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = Path(tempfile.mkdtemp(dir=folder, prefix="."))
    # The second one finds what the first has noted, and only then keeps all that is compiled.
    done = all(_ran(work / "deno") for _ in range(2))
    if done:
        with contextlib.suppress(OSError):
            (work / "deno").rename(place(folder))
    shutil.rmtree(work, ignore_errors=True)
    return done


def _ran(folder: Path) -> bool:
    """Let a worker start once; whether it did."""
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="micro") as short:
        path = Path(short) / "s"
        argv, env = command(path, heap=LEAST_HEAP, folder=folder)
        with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, cwd="/") as process:
            try:
                return _listens(path, process) and _has_compiled(folder / _CODE)
            finally:
                # Not asked to end: it would tidy up what others could then not read.
                process.kill()


def _listens(path: Path, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + _TIME
    while process.poll() is None and time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(path)) == 0:
                return True
        time.sleep(_POLL)
    return False


def _has_compiled(code: Path) -> bool:
    """Wait until what it writes grows no more."""
    size, since, until = -1, time.monotonic(), time.monotonic() + _TIME
    while time.monotonic() < until:
        now = code.stat().st_size if code.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif size and time.monotonic() - since > _STILL:
            return True
        time.sleep(_POLL)
    return size > 0


class Warmer:
    """Has it made when it is worth it: when a second worker is started.

    Args:
        folder: where it is to be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers = 0
        self._process: subprocess.Popen[bytes] | None = None

    def started(self) -> None:
        """A worker has been started."""
        self._workers += 1
        if self._workers == 2 and not place(self._folder).exists():
            argv = [sys.executable, "-P", "-m", __name__, os.fspath(self._folder)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        sys.exit(0 if warm(Path(sys.argv[1])) else 1)
    except (errors.Error, OSError) as error:
        sys.exit(f"deno: {error}")
