"""What replicas write: one file each, bounded, read by its last lines, by time, and by following.

Programs write to their files directly, so that a core that comes and goes disturbs nobody; what
their lines lack, the time, is marked from outside: once a second, how far each file had grown.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock

from .logfile import LONGEST_LINE, LogFile, split_lines

logger = logging.getLogger(__name__)

ROTATE = 10 * 1024 * 1024
"""The size at which a log starts anew; one old part is kept beside it."""

MAX_LINES = 10_000
"""The most lines of one answer."""

BUILD = "build"
"""In the place of a replica's number: what fetching and building wrote."""

_MAX_BYTES = 1024 * 1024
_POLL = 0.1
_CURSOR = re.compile(r"(\d+|build):(\d+)")


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        text: without its end.
        replica: the number of the replica, or ``build``.
        time: when it was written, to about a second, since the epoch.
    """

    text: str
    replica: str
    time: float


class LogsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`micro logs`.

    Attributes:
        name: what `micro status` shows.
        cursor: what an earlier answer gave: only what came after it.
        lines: at most so many of the last lines; only without a cursor.
        since: only lines written after this time; only without a cursor.
        build: what fetching and building wrote, in place of the replicas.
        wait: follow: answer whole lines only, and wait so many seconds for one.
    """

    name: str
    cursor: str = ""
    lines: int = 15
    since: float = 0.0
    build: bool = False
    wait: float = 0.0


class LogsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Lines, oldest first, and where to go on."""

    lines: list[LogLine]
    cursor: str


class Logs:
    """The logs of all services.

    Args:
        folder: where they are.
        clock: where the times of lines come from.
        rotate: the size at which a log starts anew.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM, rotate: int = ROTATE) -> None:
        self._folder = folder
        self._clock = clock
        self._rotate = rotate
        self._files: dict[Path, LogFile] = {}
        # Tending and reading run in threads, and a rotation must not come between.
        self._lock = threading.Lock()

    def path(self, name: str, replica: int | str) -> Path:
        """The file that a replica writes to."""
        return self._folder / f"{name}.{replica}.log"

    async def keep(self) -> None:
        """Mark the time and keep the files short, once a second, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.tend)
            except OSError as exc:
                # A disk that is full now may have room a second later.
                logger.warning("the logs could not be tended: %s", exc)
            await self._clock.sleep(1.0)

    def tend(self) -> None:
        """Mark how far each file has grown, and start those anew that are too long."""
        now = self._clock.time()
        with self._lock:
            for path in self._folder.glob("*.log"):
                if _slot(path):
                    self._file(path).tend(now, self._rotate)

    async def read(self, request: LogsRequest) -> LogsAnswer:
        """The lines asked for; with ``wait``, as soon as there is one.

        Raises:
            errors.BadRequest: a bad cursor or number of lines.
        """
        if not 0 <= request.lines <= MAX_LINES:
            raise errors.BadRequest("runtime.logs", f"lines: use 0 to {MAX_LINES}")
        answer = await asyncio.to_thread(self._read, request)
        deadline = asyncio.get_running_loop().time() + min(request.wait, 30.0)
        follow = msgspec.structs.replace(request, cursor=answer.cursor)
        while not answer.lines and request.wait and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL)
            answer = await asyncio.to_thread(self._read, follow)
            follow = msgspec.structs.replace(request, cursor=answer.cursor)
        return answer

    def forget(self, name: str) -> None:
        """Remove the logs of a service."""
        with self._lock:
            for slot, file in list(self._of(name)):
                self._files.pop(self.path(name, slot), None)
                file.remove()

    def _read(self, request: LogsRequest) -> LogsAnswer:
        with self._lock:
            return self._read_locked(request)

    def _read_locked(self, request: LogsRequest) -> LogsAnswer:
        # An empty cursor asks for the last lines, one of no file ("-") for all that comes.
        offsets = _offsets(request.cursor)
        lines: list[LogLine] = []
        for slot, file in self._of(request.name):
            if (slot == BUILD) != request.build:
                continue
            if request.cursor:
                start, data = file.after(offsets.get(slot, 0), _MAX_BYTES)
            else:
                # Who follows does not get an unfinished last line, so look for one more.
                count = request.lines + (request.wait > 0)
                start, data = file.last(count, file.offset_at(request.since), _MAX_BYTES)
            whole = _whole(data) if request.wait or request.cursor else data
            offsets[slot] = start + len(whole)
            lines += _lines(slot, file, start, whole)
        lines.sort(key=lambda line: line.time)
        if not request.cursor:
            lines = lines[len(lines) - min(request.lines, len(lines)) :]
        cursor = ",".join(f"{slot}:{offset}" for slot, offset in offsets.items())
        return LogsAnswer(lines=lines, cursor=cursor or "-")

    def _of(self, name: str) -> Iterator[tuple[str, LogFile]]:
        for path in sorted(self._folder.glob(f"{name}.*.log")):
            slot = _slot(path)
            if slot and path.name == f"{name}.{slot}.log":
                yield slot, self._file(path)

    def _file(self, path: Path) -> LogFile:
        if path not in self._files:
            self._files[path] = LogFile(path)
        return self._files[path]


def last_lines(path: Path, count: int = 20, start: int = 0) -> list[str]:
    """The last lines of a file that say something; a file that is not there has none.

    Args:
        path: the file.
        count: at most so many.
        start: only what comes after this size; a file that has become shorter counts whole.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start if start <= size else 0, size - 64 * 1024))
            data = file.read()
    except FileNotFoundError:
        return []
    texts = [line.decode("utf-8", "replace").rstrip() for line in data.splitlines()]
    return [text[:LONGEST_LINE] for text in texts if text][-count:]


def size_of(path: Path) -> int:
    """The size of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _slot(path: Path) -> str:
    slot = path.name.removesuffix(".log").rpartition(".")[2]
    return slot if slot == BUILD or slot.isdecimal() else ""


def _offsets(cursor: str) -> dict[str, int]:
    if cursor in ("", "-"):
        return {}
    parts = [_CURSOR.fullmatch(part) for part in cursor[:10_000].split(",")]
    if not all(parts):
        raise errors.BadRequest("runtime.logs", f"cursor: {cursor[:80]!r} was not given by us")
    return {part[1]: int(part[2]) for part in parts if part}


def _whole(data: bytes) -> bytes:
    """Without an unfinished last line, unless that is longer than a line may be."""
    end = data.rfind(b"\n") + 1
    return data if len(data) - end > LONGEST_LINE else data[:end]


def _lines(slot: str, file: LogFile, start: int, data: bytes) -> Iterator[LogLine]:
    ends = [mark.offset for mark in file.marks]
    for offset, text in split_lines(start, data):
        mark = bisect.bisect_right(ends, offset)
        time = file.marks[mark].time if mark < len(ends) else file.written()
        yield LogLine(text=text, replica=slot, time=time)
