"""What was allowed and what was refused: a line for each sub-request, in the egress's own log.

The log keeps its last half when it is full; and of one function that fetches all the time, a
second has so many lines, and one that says how many more there were.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from .hosts import Origin

LINES = 100
"""Lines about one function in a second; the rest is counted."""

ALL_LINES = 1000
"""Lines about all functions in a second."""

MAX_FILE = 10 * 1024 * 1024
"""Bytes of the log, of which the last half is kept when it is longer."""

MAX_LINE = 600
"""Characters of one line; what is more is cut."""


class Decision(NamedTuple):
    """What has become of a sub-request.

    Attributes:
        verdict: ``allowed``; ``refused``, it was not let out; or ``failed``, out there.
        namespace: of the function.
        name: of the function.
        version: its number.
        method: as it was asked for.
        origin: where to, in the end; None if it was no URL.
        address: that it was connected to, or empty.
        port: of that.
        redirects: that were followed.
        status: of the answer, or of the error.
        size: bytes of the answer's body that went on.
        seconds: that it took.
        why: it was refused or has failed.
    """

    verdict: str
    namespace: str
    name: str
    version: int
    method: str
    origin: Origin | None
    address: str
    port: int
    redirects: int
    status: int
    size: int
    seconds: float
    why: str = ""

    @property
    def function(self) -> str:
        """With its namespace."""
        return f"{self.namespace}/{self.name}"


class Decisions:
    """Writes them down.

    Args:
        path: of the log; opened here, and never again.
        json: a line is an object.
        clock: now, in seconds since the epoch.
    """

    def __init__(
        self, path: Path, *, json: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._json = json
        self._clock = clock
        self._second = 0
        self._lines: dict[str, int] = {}
        self._all = 0
        self._more: dict[str, dict[str, int]] = {}

    def note(self, decision: Decision) -> None:
        """Write one down."""
        now = self._clock()
        if int(now) != self._second:
            self.flush()
            self._second = int(now)
        about = decision.function
        told = self._lines.get(about, 0)
        if told >= LINES or self._all >= ALL_LINES:
            counts = self._more.setdefault(about, {})
            counts[decision.verdict] = counts.get(decision.verdict, 0) + 1
            return
        self._lines[about] = told + 1
        self._all += 1
        self._write(self._line(decision, now))

    def flush(self) -> None:
        """Tell what was only counted, and begin a new second."""
        more, self._more = self._more, {}
        self._lines.clear()
        self._all = 0
        now = self._clock()
        for function, counts in more.items():
            told = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items())
            text = f"{function} fetched more in that second: {told}"
            fields = {"function": function, **counts}
            self._write(self._formatted(text, {"more": fields}, now))

    def close(self) -> None:
        """Tell the rest, and close the log."""
        self.flush()
        os.close(self._file)

    def _line(self, decision: Decision, now: float) -> bytes:
        where = f"{decision.origin.scheme}://{decision.origin}" if decision.origin else "nowhere"
        text = f"{decision.verdict} {decision.function} v{decision.version}: "
        text += f"{decision.method[:16]} {where}"
        if decision.address:
            text += f" at {decision.address} port {decision.port}"
        if decision.redirects:
            text += f" after {decision.redirects} redirects"
        milliseconds = round(decision.seconds * 1000)
        text += f", {decision.status}, {decision.size:,} bytes, {milliseconds} ms"
        text += f": {decision.why}" if decision.why else ""
        fields = {**decision._asdict(), "origin": where, "ms": milliseconds}
        del fields["seconds"]
        return self._formatted(text, fields, now)

    def _formatted(self, text: str, fields: dict[str, object], now: float) -> bytes:
        # What is told of a request was made by who is judged here.
        shown = "".join(one if one.isprintable() else "�" for one in text)[:MAX_LINE]
        if self._json:
            told = {"timestamp": now, "level": "info", "logger": "microcosmos.egress"}
            return msgspec.json.encode({**told, "message": shown, **fields}) + b"\n"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        return f"{stamp},{int(now % 1 * 1000):03} info    microcosmos.egress: {shown}\n".encode()

    def _write(self, line: bytes) -> None:
        # A full disk is no reason to end what is under way.
        with contextlib.suppress(OSError):
            os.write(self._file, line)
            if os.fstat(self._file).st_size > MAX_FILE:
                self._halve()

    def _halve(self) -> None:
        size = os.fstat(self._file).st_size
        kept = os.pread(self._file, MAX_FILE // 2, size - MAX_FILE // 2)
        os.ftruncate(self._file, 0)
        os.write(self._file, kept[kept.find(b"\n") + 1 :])
