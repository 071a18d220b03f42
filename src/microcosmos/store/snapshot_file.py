"""The file of a snapshot: a line that names the format, frames, and a checksum of it all.

A frame is four bytes that say its length, and a message in MessagePack: a `Head`, then for each
table a `Place` and its rows in the order of their keys, then a `Tail`. SHA-256 of all the bytes
before it ends the file, so that one cut short anywhere is known by its end.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from microcosmos.base import errors

from . import checks
from .interface import Write

_NAME = b"microcosmos store snapshot "
_FORMAT = 1
_LENGTH = 4
_BLOCK = 1 << 20


class Head(msgspec.Struct, frozen=True, tag="head", array_like=True):
    """What a snapshot is of: the store's version, the time, and whether it is of one moment."""

    version: int
    created: float
    consistent: bool


class Place(msgspec.Struct, frozen=True, tag="table", array_like=True):
    """The table of the rows that follow."""

    database: str
    table: str


class Row(msgspec.Struct, frozen=True, tag="row", array_like=True):
    """A record, with the time at which it expires; None if it never does."""

    key: str
    value: bytes
    metadata: dict[str, str] = {}
    expires: float | None = None


class Tail(msgspec.Struct, frozen=True, tag="tail", array_like=True):
    """How many rows there are."""

    rows: int


Frame = Head | Place | Row | Tail

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def path_of(url: str) -> Path:
    """The path of ``file:///absolute/path``, as written.

    Raises:
        errors.BadRequest: it is no such URL.
    """
    scheme, _, path = url.partition("://")
    if scheme == "file" and path.startswith("/") and not path.endswith("/"):
        return Path(path)
    raise errors.BadRequest("store", f"{url!r:.200} is no file like file:///tmp/store.snapshot")


class SnapshotWriter:
    """Writes a file that takes its name only when it is whole and on the disk.

    As a context manager it removes what it wrote unless `finish` was called.

    Raises:
        errors.Unavailable: from each method: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sum = hashlib.sha256()
        self._rows = 0
        try:
            # Readable by its owner alone.
            number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        except OSError as exc:
            raise self._failed(exc) from None
        self._draft = Path(name)
        self._file = os.fdopen(number, "wb", buffering=_BLOCK)
        self._put(_NAME + b"%d\n" % _FORMAT)

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what it still holds back, and nobody wants
            self._file.close()
        self._draft.unlink(missing_ok=True)

    def write(self, *frames: Frame) -> None:
        """Add frames."""
        for frame in frames:
            data = _encode(frame)
            self._put(len(data).to_bytes(_LENGTH, "big"))
            self._put(data)
            self._rows += isinstance(frame, Row)

    def finish(self) -> None:
        """End the file and give it its name, in place of one that had it."""
        self.write(Tail(self._rows))
        try:
            self._file.write(self._sum.digest())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._draft.replace(self.path)
            _sync(self.path.parent)
        except OSError as exc:
            raise self._failed(exc) from None

    def _put(self, data: bytes) -> None:
        self._sum.update(data)
        try:
            self._file.write(data)
        except OSError as exc:
            raise self._failed(exc) from None

    def _failed(self, exc: OSError) -> errors.Error:
        return errors.Unavailable("store", f"cannot write {self.path}: {exc.strerror}")


class SnapshotReader:
    """Reads a file that `check` found whole.

    Raises:
        errors.NotFound: there is no such file.
        errors.Unavailable: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
            self._end = os.fstat(self._file.fileno()).st_size - hashlib.sha256().digest_size
        except FileNotFoundError:
            raise errors.NotFound("store", f"there is no file {path}") from None
        except OSError as exc:
            raise errors.Unavailable("store", f"cannot read {path}: {exc.strerror}") from None

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def check(self) -> list[str]:
        """Read it to its end, and return the databases in it.

        Raises:
            errors.BadRequest: it is no snapshot, or damaged, or cut short.
        """
        try:
            self._check_sum()
            return self._check_frames()
        except (OSError, ValueError, StopIteration):
            raise self._damaged() from None

    def frames(self) -> Iterator[Frame]:
        """What is in it, from the beginning."""
        self._file.seek(0)
        self._line()
        while self._file.tell() < self._end:
            size = int.from_bytes(self._file.read(_LENGTH), "big")
            if size > self._end - self._file.tell():
                raise self._damaged()
            yield _decode(self._file.read(size))

    def _check_sum(self) -> None:
        self._file.seek(0)
        self._line()
        self._file.seek(0)
        if _sum(self._file, self._end) != self._file.read():
            raise self._damaged()

    def _check_frames(self) -> list[str]:
        databases: list[str] = []
        frames = self.frames()
        _demand(isinstance(next(frames), Head))
        rows, frame, key = 0, next(frames), b"\xff"  # no row may come before its table
        while not isinstance(frame, Tail):
            _demand(_is_good(frame))
            if isinstance(frame, Place):
                databases += [frame.database] if frame.database not in databases else []
                key = b""
            elif isinstance(frame, Row):
                _demand(key < frame.key.encode())
                rows, key = rows + 1, frame.key.encode()
            frame = next(frames)
        _demand(frame.rows == rows and next(frames, None) is None)
        return databases

    def _line(self) -> None:
        line = self._file.readline(100)
        name, number = line[: len(_NAME)], line[len(_NAME) :].strip()
        if name != _NAME:
            raise errors.BadRequest("store", f"{self.path} is no snapshot of a store")
        if number.isdigit() and int(number) > _FORMAT:
            why = "was written by a newer version of this program; update this one"
            raise errors.BadRequest("store", f"{self.path} {why}")

    def _damaged(self) -> errors.Error:
        why = "is damaged or cut short; nothing was changed"
        return errors.BadRequest("store", f"{self.path} {why}")


def _demand(so: bool) -> None:
    if not so:
        raise ValueError


def _is_good(frame: Frame) -> bool:
    """Whether a store would take it: known before anything is written to one."""
    try:
        if isinstance(frame, Row):
            checks.op(Write(frame.key, frame.value, 0, frame.metadata))
        elif isinstance(frame, Place):
            checks.name(frame.database, "database")
            checks.name(frame.table, "table")
    except errors.Error:
        return False
    return not isinstance(frame, Head)


def _sum(file: BinaryIO, end: int) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(min(_BLOCK, max(end - file.tell(), 0))):
        digest.update(block)
    return digest.digest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
