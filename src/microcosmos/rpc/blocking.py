"""A call over the lane without an event loop, for command lines that must start quickly."""

from __future__ import annotations

import socket
from pathlib import Path

from microcosmos.base import errors

from . import frames
from .interface import Call, Unreachable, late


def call(path: Path | str, call: Call) -> bytes:
    """Call a service that listens on a Unix socket and wait for its answer.

    Raises:
        Unreachable: nobody listens there.
        errors.Error: what the service answered, `DeadlineExceeded` or `ConnectionLost`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(call.timeout)
        try:
            line.connect(str(path))
        except OSError as exc:
            raise Unreachable(f"{path}: {exc.strerror}") from None
        try:
            line.sendall(b"".join(frames.chunks(frames.REQUEST, 1, frames.encode_call(call))))
            return _answer(line)
        except TimeoutError:
            raise late(call) from None
        except OSError as exc:
            detail = f"the line broke: {exc.strerror}"
            raise errors.ConnectionLost(call.service, detail) from None


def _answer(line: socket.socket) -> bytes:
    reader = frames.Reader()
    while data := line.recv(1 << 18):
        for kind, _, payload in reader.feed(data):
            if kind == frames.REPLY:
                return payload
            if kind == frames.ERROR:
                raise errors.from_wire(payload)
    raise errors.ConnectionLost("rpc", "the other side closed the line before it answered")
