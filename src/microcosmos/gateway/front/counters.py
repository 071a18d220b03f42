"""What has been asked for, by key, in memory that the gateways of a server share.

A file of fixed size, mapped into every gateway: it outlives each of them, and no flood of keys
makes it grow. A key hashes to a row of slots; whoever changes the row locks its bytes in the
file, and the kernel unlocks them should he die. When a row is full, the slot that says least
makes room: the one whose time is over first, and of those the one that was counted least.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger("microcosmos.gateway")

COUNTERS = 65_536
"""Keys of limits that a server remembers at one time; beyond it the least counted are forgotten."""

_WAYS = 8
_ROWS = COUNTERS // _WAYS
# The hash of a key, a time, a count: what they mean is the meter's business.
_SLOT = struct.Struct("<Qdd")
_ROW = _SLOT.size * _WAYS
# A mark with the version of the format, and a secret, so that nobody can choose a row for a key.
_MARK = b"microcosmos\0lim1"
_HEAD = 32
_SIZE = _HEAD + _ROWS * _ROW
_TRIES = 200

Value = tuple[float, float]
_FREE = (float("-inf"), 0.0)


class Counters:
    """Opens the file, or makes it; without a file it counts for this process alone.

    Args:
        path: the file, the same for every gateway of the server.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = -1
        if path is not None:
            try:
                self._file = _opened(path)
            except OSError as exc:
                log.warning("limits are counted by each gateway alone: %s: %s", path, exc)
        self._memory = mmap.mmap(self._file, _SIZE)
        with self._locked(0, _HEAD):
            if self._memory[: len(_MARK)] != _MARK:
                self._memory[:] = bytes(_SIZE)
                self._memory[:_HEAD] = _MARK + secrets.token_bytes(_HEAD - len(_MARK))
        self._secret = bytes(self._memory[len(_MARK) : _HEAD])

    def close(self) -> None:
        """Give the file back."""
        self._memory.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def change(self, key: str, change: Callable[[Value | None], Value]) -> None:
        """Replace the value of a key by what ``change`` makes of it; nobody comes between."""
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8, key=self._secret)
        number = int.from_bytes(digest.digest(), "little") or 1
        at = _HEAD + (number % _ROWS) * _ROW
        with self._locked(at, _ROW):
            slots = list(_SLOT.iter_unpack(self._memory[at : at + _ROW]))
            found = next((n for n, slot in enumerate(slots) if slot[0] == number), None)
            chosen = _least(slots) if found is None else found
            value = change(None if found is None else slots[found][1:])
            _SLOT.pack_into(self._memory, at + chosen * _SLOT.size, number, *value)

    @contextlib.contextmanager
    def _locked(self, at: int, size: int) -> Iterator[None]:
        if self._file < 0 or not self._lock(at, size):
            yield
            return
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, size, at)

    def _lock(self, at: int, size: int) -> bool:
        """Lock some bytes. A gateway that was stopped while it counted does not stop the others."""
        for attempt in range(_TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, size, at)
            except OSError:
                time.sleep(0 if attempt < _TRIES // 2 else 0.0001)
            else:
                return True
        return False


def _opened(path: Path) -> int:
    """The file, with its space reserved: a full disk is met here, not while it is written."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size != _SIZE:
            os.ftruncate(file, _SIZE)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, _SIZE)
    except OSError:
        os.close(file)
        raise
    return file


def _least(slots: list[tuple[int, float, float]]) -> int:
    """The slot that is free, or that says least."""
    return min(range(len(slots)), key=lambda n: slots[n][1:] if slots[n][0] else _FREE)
