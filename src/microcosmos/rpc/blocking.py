"""Calls and streams over the lane without an event loop, for command lines that start quickly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from microcosmos.base import errors

from . import frames
from .credit import BEATS, WEIGHT, WINDOW
from .interface import Call, Unreachable, check_size, late

_NUMBER = 1


def call(path: Path | str, call: Call) -> bytes:
    """Call a service that listens on a Unix socket and wait for its answer.

    Raises:
        Unreachable: nobody listens there.
        errors.Error: what the service answered, `DeadlineExceeded` or `ConnectionLost`.
    """
    with _Line(path, call) as line:
        line.write(*frames.chunks(frames.REQUEST, _NUMBER, frames.encode_call(call)))
        for kind, payload in line.messages():
            if kind == frames.REPLY:
                return payload
            if kind == frames.ERROR:
                raise errors.from_wire(payload)
    raise errors.ConnectionLost(call.service, "the line was closed before the answer came")


class BlockingStream:
    """A stream over the lane; one thread may read it while another sends.

    Args:
        path: the socket that its service listens on.
        call: the request; its timeout is for all of the stream.

    Raises:
        Unreachable: nobody listens there.
    """

    def __init__(self, path: Path | str, call: Call) -> None:
        self._call = call
        self._line = _Line(path, call)
        self._credit = WINDOW
        self._sent = 0
        self._over = False
        self._room = threading.Condition()
        self._line.write(*frames.chunks(frames.OPEN, _NUMBER, frames.encode_call(call)))
        # Its reader may stop for long, at a pager say, and is no less there.
        threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> BlockingStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the stream up, if it has not ended."""
        self._end()
        # The other side takes a line that is closed for a caller that has gone.
        self._line.close()

    def send(self, message: bytes) -> None:
        """Send a message; waits while the other side is too far behind, for as long as it reads.

        Raises:
            errors.Conflict: the stream has ended.
        """
        with self._room:
            self._room.wait_for(lambda: self._credit > 0 or self._over)
            if self._over:
                raise errors.Conflict(self._call.service, "the stream has ended")
            self._credit -= len(message) + WEIGHT
            self._sent += 1
        self._line.write(*frames.chunks(frames.ITEM, _NUMBER, message))

    def end(self) -> None:
        """Say that no more messages come from here."""
        self._line.write(frames.pack(frames.END, _NUMBER, b"%d" % self._sent))

    def __iter__(self) -> Iterator[bytes]:
        """The messages of the other side, until it ends.

        Raises:
            errors.Error: what the stream ended by.
        """
        owed = 0
        try:
            for kind, payload in self._line.messages():
                if kind == frames.ITEM:
                    yield payload
                    owed += len(payload) + WEIGHT
                    if owed >= WINDOW // 2:
                        self._line.write(frames.pack(frames.GRANT, _NUMBER, b"%d" % owed))
                        owed = 0
                elif kind == frames.GRANT:
                    with self._room:
                        self._credit += int(payload)
                        self._room.notify_all()
                elif kind == frames.ERROR:
                    raise errors.from_wire(payload)
                elif kind == frames.END:
                    return
        finally:
            self._end()
        raise errors.ConnectionLost(self._call.service, "the line was closed during the stream")

    def _beat(self) -> None:
        with self._room, contextlib.suppress(errors.Error):
            while not self._room.wait_for(lambda: self._over, BEATS):
                self._line.write(frames.pack(frames.BEAT, _NUMBER, b""))

    def _end(self) -> None:
        with self._room:
            self._over = True
            self._room.notify_all()


class _Line:
    """A blocking line to a service, for one call.

    Args:
        path: its socket.
        call: whose timeout is for all that is done on the line.

    Raises:
        Unreachable: nobody listens there.
        errors.Error: the call is too large or late already.
    """

    def __init__(self, path: Path | str, call: Call) -> None:
        check_size(call)
        if call.timeout is not None and call.timeout <= 0:
            raise late(call)
        self._call = call
        self._until = None if call.timeout is None else time.monotonic() + call.timeout
        self._reader = frames.Reader()
        self._writing = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(call.timeout)
        try:
            self._socket.connect(str(path))
        except OSError as exc:
            self._socket.close()
            raise Unreachable(f"{path}: {exc.strerror or exc}") from None

    def __enter__(self) -> _Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the line."""
        self._socket.close()

    def write(self, *parts: bytes) -> None:
        """Write frames, whole and in order, whichever thread does."""
        try:
            with self._writing:
                self._socket.sendall(b"".join(parts))
        except TimeoutError:
            raise late(self._call) from None
        except OSError as exc:
            raise self._broken(exc) from None

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """The kind and payload of every message that comes, until the line is closed."""
        while data := self._read():
            try:
                received = self._reader.feed(data)
            except errors.BadRequest as error:
                detail = f"not a lane: {error.detail}"
                raise errors.ConnectionLost(self._call.service, detail) from None
            for kind, _, payload in received:
                yield kind, payload

    def _read(self) -> bytes:
        try:
            if self._until is not None:
                left = self._until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
            return self._socket.recv(1 << 18)
        except TimeoutError:
            raise late(self._call) from None
        except OSError as exc:
            raise self._broken(exc) from None

    def _broken(self, exc: OSError) -> errors.ConnectionLost:
        detail = f"the line broke: {exc.strerror or exc}"
        return errors.ConnectionLost(self._call.service, detail)
