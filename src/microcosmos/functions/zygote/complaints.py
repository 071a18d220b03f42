"""What workers write to their standard error, on its way to the log of the zygote."""

from __future__ import annotations

import os
import sys
import time

MAX_COMPLAINTS = 64 * 1024
"""Bytes that one worker may write to the log of the zygote in a second; more is dropped there."""

_PIECE = 16 * 1024
_KEPT = frozenset(b"\t\n")
_SHOWN = bytes(one if one in _KEPT or 32 <= one != 127 else ord("?") for one in range(256))


class Complaints:
    """The complaints of one worker.

    Whatever code runs there may write anything: it gets into the log as text, a line at a time,
    and only so much of it.

    Args:
        descriptor: where they are read.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._since = time.monotonic()
        self._room = MAX_COMPLAINTS
        self._dropped = 0
        self._line = b""

    def read(self) -> bool:
        """Read some of them; False once there will be no more."""
        data = os.read(self._descriptor, _PIECE)
        if not data:
            self._write(self._line + b"\n" if self._line else b"")
            self._tell_dropped()
            return False
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _PIECE:
            lines.append(self._line)
            self._line = b""
        if lines:
            self._write(b"\n".join(lines) + b"\n")
        return True

    def _write(self, text: bytes) -> None:
        now = time.monotonic()
        if now - self._since >= 1:
            self._since, self._room = now, MAX_COMPLAINTS
            self._tell_dropped()
        if len(text) > self._room:
            self._dropped += len(text)
            return
        self._room -= len(text)
        _log(text.translate(_SHOWN))

    def _tell_dropped(self) -> None:
        if self._dropped:
            _log(b"%d bytes of a worker were dropped: too many at once\n" % self._dropped)
            self._dropped = 0


def _log(text: bytes) -> None:
    """Write to the standard error of this process, past what of it is Python's."""
    sys.stderr.flush()
    while text:
        try:
            text = text[os.write(2, text) :]
        except OSError:
            return
