"""A call over the lane without an event loop, for command lines that must start quickly."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from microcosmos.base import errors

from . import frames
from .interface import Call, Unreachable, check_size, late


def call(path: Path | str, call: Call) -> bytes:
    """Call a service that listens on a Unix socket and wait for its answer.

    Raises:
        Unreachable: nobody listens there.
        errors.Error: what the service answered, `DeadlineExceeded` or `ConnectionLost`.
    """
    check_size(call)
    if call.timeout is not None and call.timeout <= 0:
        raise late(call)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        until = None if call.timeout is None else time.monotonic() + call.timeout
        line.settimeout(call.timeout)
        try:
            line.connect(str(path))
        except OSError as exc:
            raise Unreachable(f"{path}: {exc.strerror or exc}") from None
        try:
            line.sendall(b"".join(frames.chunks(frames.REQUEST, 1, frames.encode_call(call))))
            return _answer(line, call, until)
        except errors.Error:
            # Some of them are a TimeoutError or an OSError too, and say more.
            raise
        except TimeoutError:
            raise late(call) from None
        except OSError as exc:
            detail = f"the line broke: {exc.strerror or exc}"
            raise errors.ConnectionLost(call.service, detail) from None


def _limit(line: socket.socket, until: float | None) -> None:
    """Let the next step on a line last until a deadline at most."""
    if until is not None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        line.settimeout(left)


def _answer(line: socket.socket, call: Call, until: float | None) -> bytes:
    reader = frames.Reader()
    while data := line.recv(1 << 18):
        for kind, _, payload in _messages(reader, data, call):
            if kind == frames.REPLY:
                return payload
            if kind == frames.ERROR:
                raise errors.from_wire(payload)
        _limit(line, until)
    raise errors.ConnectionLost(call.service, "the line was closed before the answer came")


def _messages(reader: frames.Reader, data: bytes, call: Call) -> list[tuple[int, int, bytes]]:
    try:
        return reader.feed(data)
    except errors.BadRequest as error:
        raise errors.ConnectionLost(call.service, f"not a lane: {error.detail}") from None
