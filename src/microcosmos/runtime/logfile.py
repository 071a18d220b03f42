"""One log file that another process appends to: lasting offsets, rotation, time marks."""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

LONGEST_LINE = 16 * 1024
"""Of a longer line only so much is shown."""

_MOST_MARKS = 4096


class Mark(msgspec.Struct, frozen=True):
    """By ``time`` everything before ``offset`` had been written."""

    time: float
    offset: int


class LogFile:
    """A file, the part before it (``.1``), and its marks (``.marks``).

    Offsets count from the first byte ever written, so that they stay good when the file starts
    anew: ``base`` is how many bytes came before the file as it is now.

    Args:
        path: the file that is appended to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marks: list[Mark] = []
        self._old = path.with_name(f"{path.name}.1")
        self._notes = path.with_name(f"{path.name}.marks")
        self._base = 0
        self._load()

    def tend(self, now: float, limit: int) -> None:
        """Note how far the file has grown by now, and start it anew above a size."""
        size = _size(self.path)
        end = self._base + size
        if size and (not self.marks or self.marks[-1].offset < end):
            self.marks.append(Mark(now, end))
            with self._notes.open("a") as file:
                file.write(f"{now:.3f} {end}\n")
        if size > limit:
            self._rotate()
        elif len(self.marks) > _MOST_MARKS:
            # Every second one is enough, the further back the coarser.
            self.marks = [*self.marks[:-1:2], self.marks[-1]]
            self._save()

    def offset_at(self, time: float) -> int:
        """Where the file ended at a time; what comes after was written later."""
        index = bisect.bisect_left(self.marks, time, key=lambda mark: mark.time)
        return self.marks[index - 1].offset if index else 0

    def written(self) -> float:
        """When it was last written to."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_mtime
        return 0.0

    def after(self, start: int, most: int) -> tuple[int, bytes]:
        """What was written from an offset on, and the offset where that really begins."""
        start = max(min(start, self._base + _size(self.path)), self._first())
        return start, self._bytes(start, start + most)

    def last(self, lines: int, start: int, most: int) -> tuple[int, bytes]:
        """The last lines, but none from before an offset, and the offset where they begin."""
        end = self._base + _size(self.path)
        first = max(start, self._first(), end - most)
        window = 4096
        while True:
            begin = max(first, end - window)
            data = self._bytes(begin, end)
            if begin == first or data.count(b"\n") > lines:
                break
            window *= 4
        cut = _start_of_last(data, lines)
        return begin + cut, data[cut:]

    def remove(self) -> None:
        """Remove it and what belongs to it."""
        for path in (self.path, self._old, self._notes):
            path.unlink(missing_ok=True)

    def _first(self) -> int:
        return self._base - _size(self._old)

    def _bytes(self, start: int, end: int) -> bytes:
        """What stands between two offsets, across both parts."""
        before = _slice(self._old, start - self._first(), min(end, self._base) - self._first())
        return before + _slice(self.path, max(start - self._base, 0), end - self._base)

    def _rotate(self) -> None:
        """Copy and truncate: the writer appends, and so goes on at the new start.

        What it writes between the last look and the truncation, microseconds, is lost.
        """
        fresh = self._old.with_suffix(".copy")
        with self.path.open("rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target)
            fresh.replace(self._old)
            while rest := source.read():
                target.write(rest)
            size = source.tell()
            os.truncate(self.path, 0)
        self._base += size
        first = self._base - size
        self.marks = [mark for mark in self.marks if mark.offset > first]
        self._save()

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            for line in self._notes.read_text().splitlines():
                what, number = line.split()
                if what == "base":
                    self._base = int(number)
                else:
                    self.marks.append(Mark(float(what), int(number)))

    def _save(self) -> None:
        noted = [f"base {self._base}", *(f"{mark.time:.3f} {mark.offset}" for mark in self.marks)]
        fresh = self._notes.with_suffix(".copy")
        fresh.write_text("\n".join(noted) + "\n")
        fresh.replace(self._notes)


def split_lines(start: int, data: bytes) -> Iterator[tuple[int, str]]:
    """The lines of a piece of a file, each with the offset where it begins."""
    for line in data.splitlines(keepends=True):
        text = line[: LONGEST_LINE + 2].decode("utf-8", "replace").rstrip("\r\n")
        yield start, text[:LONGEST_LINE]
        start += len(line)


def _start_of_last(data: bytes, lines: int) -> int:
    position = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        position = data.rfind(b"\n", 0, max(position, 0))
        if position < 0:
            return 0
    return position + 1 if lines else len(data)


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _slice(path: Path, start: int, end: int) -> bytes:
    if end <= start:
        return b""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)
    return b""
