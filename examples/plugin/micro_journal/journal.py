"""The file: a line of JSON for each batch, appended and synced; a batch that is torn never was."""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from microcosmos import errors


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a key.

    Attributes:
        database: where it is.
        table: of that database.
        key: its name.
        version: of the batch that did it.
        value: what stands there; None if it was deleted.
        metadata: the notes to it.
        expires: seconds since the epoch; 0 is never.
    """

    database: str
    table: str
    key: str
    version: int
    value: bytes | None = None
    metadata: dict[str, str] = {}
    expires: float = 0


class _Head(msgspec.Struct, tag="journal"):
    """The first line; the store was at this version when the file was last written anew."""

    version: int


class Journal:
    """The file of a store, which one process has open.

    Args:
        path: where it is; it is made when it is missing.

    Raises:
        errors.Conflict: another process has it open.
        errors.InternalServerError: it is damaged; the detail names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path.with_name(path.name + ".lock"))
        try:
            self.version, self.rows = self._read() if path.exists() else (0, {})
            self._file = self._written_anew()
        except BaseException:
            self._lock.close()
            raise
        self._size = self._file.tell()

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()
        self._lock.close()

    def append(self, rows: list[Row]) -> None:
        """Add a batch, durably.

        Raises:
            errors.Unavailable: it could not be written; then nothing of it is in the file.
        """
        try:
            line = msgspec.json.encode(rows) + b"\n"
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as exc:
            self._file.truncate(self._size)
            self._file.seek(self._size)
            raise errors.Unavailable("store", f"{self.path}: {exc.strerror}") from None
        self._size = self._file.tell()

    def _read(self) -> tuple[int, dict[tuple[str, str, str], Row]]:
        """The last version, and the last row of each key."""
        version, rows = 0, {}
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # the machine went down in the middle of it: it was never acknowledged
                try:
                    batch = _decoded(line, first=number == 1)
                except msgspec.DecodeError as exc:
                    detail = f"{self.path}, line {number} is damaged ({exc}); restore a backup"
                    raise errors.InternalServerError("store", detail) from None
                for row in batch:
                    version = max(version, row.version)
                    rows[row.database, row.table, row.key] = row
        return version, {place: row for place, row in rows.items() if row.value is not None}

    def _written_anew(self) -> io.FileIO:
        """A file with nothing of what was replaced or deleted."""
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(_Head(self.version)) + b"\n")
            file.writelines(msgspec.json.encode([row]) + b"\n" for row in self.rows.values())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        _sync(self.path.parent)
        return io.FileIO(self.path, "ab")


def _decoded(line: bytes, *, first: bool) -> Iterable[Row]:
    if first:
        version = msgspec.json.decode(line, type=_Head).version
        return [Row("", "", "", version)]
    return msgspec.json.decode(line, type=list[Row])


def _locked(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise errors.Conflict("store", f"{path} is held by another process") from None
    return file


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
