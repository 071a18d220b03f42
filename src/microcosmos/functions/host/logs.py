"""The logs of functions: a file each, beside those of services, with lines of the same form."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from microcosmos.runtime.deployment import label

log = logging.getLogger("microcosmos.functions")

MAX_LINES = 1000
"""Lines of one function's log in a second; what is more is counted and dropped."""

MAX_BYTES = 1024 * 1024
"""Bytes of one function's log in a second."""

MAX_TEXT = 16 * 1024
"""Characters of one entry; what is more is cut."""

_OPEN_FILES = 256

# Terminals obey these, and logs are read in terminals. Tabs and line ends stay.
_CONTROL = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}


class _Second:
    """What a function has written in a second."""

    __slots__ = ("bytes", "dropped", "lines", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines = 0
        self.bytes = 0
        self.dropped = 0


class FunctionLogs:
    """Appends to the logs of functions; whoever reads them starts them anew when they are long.

    Args:
        folder: where they are, `Home.logs`.
        form: ``plain`` or ``json``, `MICRO_LOG_FORMAT`.
        clock: now, in seconds since the epoch.
    """

    def __init__(
        self, folder: Path, form: str = "plain", clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._json = form == "json"
        self._clock = clock
        self._files: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._seconds: dict[tuple[str, str], _Second] = {}
        self._failed = False

    def path(self, namespace: str, name: str) -> Path:
        """The file of a function, as of the only replica of a service."""
        return self._folder / f"{label(namespace, name)}.0.log"

    def write(
        self,
        namespace: str,
        name: str,
        level: str,
        text: str,
        *,
        at: float = 0,
        trace: str = "",
    ) -> None:
        """Append one entry; a flood is cut, and a disk that is full loses it."""
        key = namespace, name
        now = self._clock()
        second = self._seconds.get(key)
        if second is None or second.number != int(now):
            second = self._next(key, int(now))
        entry = self._entry(name, level, text, at or now, trace)
        lines = entry.count(b"\n")
        if second.lines + lines > MAX_LINES or second.bytes + len(entry) > MAX_BYTES:
            second.dropped += lines
            return
        second.lines += lines
        second.bytes += len(entry)
        self._append(key, entry)

    def settle(self) -> None:
        """Tell of what was dropped in seconds that are over; call it about once a second."""
        now = int(self._clock())
        for key, second in [*self._seconds.items()]:
            if second.number < now:
                self._tell(key, second)
                del self._seconds[key]

    def forget(self, namespace: str, name: str) -> None:
        """A function is no more."""
        self._seconds.pop((namespace, name), None)
        if (file := self._files.pop((namespace, name), None)) is not None:
            os.close(file)

    def close(self) -> None:
        """Close all files."""
        for key, second in self._seconds.items():
            self._tell(key, second)
        self._seconds.clear()
        while self._files:
            os.close(self._files.popitem()[1])

    def _next(self, key: tuple[str, str], number: int) -> _Second:
        if before := self._seconds.get(key):
            self._tell(key, before)
        second = self._seconds[key] = _Second(number)
        return second

    def _tell(self, key: tuple[str, str], second: _Second) -> None:
        if second.dropped:
            said = (
                f"{second.dropped} lines were dropped: a function may write {MAX_LINES} lines and "
                f"{MAX_BYTES} bytes a second"
            )
            self._append(key, self._entry(key[1], "warn", said, float(second.number + 1), ""))

    def _entry(self, name: str, level: str, text: str, at: float, trace: str) -> bytes:
        cut = text[:MAX_TEXT].rstrip("\n")
        if self._json:
            fields = {"timestamp": at, "level": level, "logger": name, "message": cut}
            if trace:
                fields["trace"] = trace
            return msgspec.json.encode(fields) + b"\n"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
        line = f"{stamp} {level:7} {name}: {cut.translate(_CONTROL)}"
        if trace:
            line += f" trace={trace.translate(_CONTROL)[:64]}"
        return line.encode("utf-8", "replace") + b"\n"

    def _append(self, key: tuple[str, str], entry: bytes) -> None:
        try:
            os.write(self._file(key), entry)
            self._failed = False
        except OSError as exc:
            if not self._failed:
                log.warning("logs of functions cannot be written: %s", exc)
            self._failed = True

    def _file(self, key: tuple[str, str]) -> int:
        file = self._files.get(key)
        if file is not None:
            with contextlib.suppress(OSError):
                if os.fstat(file).st_nlink:
                    self._files.move_to_end(key)
                    return file
            # It was removed, with its function, and there is a function of that name again.
            os.close(self._files.pop(key))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = self._files[key] = os.open(self.path(*key), flags, 0o600)
        if len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return file
