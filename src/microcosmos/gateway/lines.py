"""Lines that several processes append to one file, without anyone waiting for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from microcosmos.base.tasks import background

log = logging.getLogger("microcosmos.gateway")

ROTATE = 100 * 1024 * 1024
"""The size at which the access log starts anew; one old part is kept beside it."""

EVERY = 0.2
"""Seconds after which lines are on their way to the disk."""

WAITING = 8 * 1024 * 1024
"""Bytes of lines that may wait for a slow disk; what comes then is lost, and counted."""


class LineFile:
    """A file that is appended to.

    One that has been renamed or removed by somebody else is made anew, so that tools which rotate
    logs need tell nobody.

    Args:
        path: the file; its folder exists.
        rotate: the size at which it becomes ``<name>.1``, and a new one begins.
    """

    def __init__(self, path: Path, rotate: int = ROTATE) -> None:
        self._path = path
        self._rotate = rotate
        self._descriptor = -1
        # A batch may still be under way in its thread when the last one is written.
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the file cannot be opened or written to.
        """
        with self._lock:
            self._append(data)

    def close(self) -> None:
        """Close it; writing opens it again."""
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        if self._descriptor >= 0 and self._moved():
            self._close()
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if os.fstat(self._descriptor).st_size > self._rotate:
            self._start_anew()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _moved(self) -> bool:
        mine = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino)

    def _start_anew(self) -> None:
        """Rename it, unless another process has just done so."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        # The lock goes with the file: who had it before has renamed that file.
        if not self._moved():
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._close()


class Lines:
    """Lines on their way to a file; made by `open_lines`."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self._size = 0
        self._lost = 0
        self._failing = False

    def add(self, line: bytes) -> None:
        """Write a line soon."""
        if self._size > WAITING:
            self._lost += 1
            return
        self._waiting.append(line)
        self._size += len(line)

    async def keep_writing(self) -> None:
        """Write what waits, again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if self._waiting:
                batch, self._waiting = b"".join(self._waiting), []
                await asyncio.to_thread(self._write, batch)
                # Only now is there room again: while the disk is slow, lines are lost.
                self._size -= len(batch)
                self._tell_lost()

    def write_last(self) -> None:
        """Write what still waits."""
        if self._waiting:
            self._write(b"".join(self._waiting))
        self._tell_lost()

    def _write(self, batch: bytes) -> None:
        try:
            self._file.write(batch)
            self._failing = False
        except OSError as exc:
            if not self._failing:
                log.warning("the access log cannot be written: %s", exc)
            self._failing = True

    def _tell_lost(self) -> None:
        if self._lost:
            log.warning("the disk is slow: %d lines of the access log were lost", self._lost)
            self._lost = 0


@contextlib.asynccontextmanager
async def open_lines(path: Path, rotate: int = ROTATE) -> AsyncIterator[Lines]:
    """Lines to a file; leaving the block writes the last ones."""
    file = LineFile(path, rotate)
    lines = Lines(file)
    try:
        async with background(lines.keep_writing(), "access log"):
            yield lines
    finally:
        lines.write_last()
        file.close()
