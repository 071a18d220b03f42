"""What is sent into a stream: the lines of the standard input, in a thread of their own."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Protocol

import click

from microcosmos.base import codec, errors

_POLL = 0.1
_CHUNK = 64 * 1024


class Stream(Protocol):
    """What can be sent to."""

    def send(self, message: bytes) -> None: ...

    def end(self) -> None: ...


class Sending:
    """Sends items into a stream and then ends it, while somebody else reads from it.

    Args:
        stream: takes the items.
        items: JSON messages; asked for in a thread.
    """

    def __init__(self, stream: Stream, items: Iterable[bytes]) -> None:
        self._stream = stream
        self._items = items
        self._failure: Exception | None = None
        if items == ():
            stream.end()
        else:
            # A daemon: nobody waits for somebody who types nothing more.
            threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        try:
            for item in self._items:
                self._stream.send(item)
        except errors.Error:
            # The stream has ended first; who reads from it is told why.
            return
        except Exception as exc:  # noqa: BLE001 - raised where somebody sees it
            self._failure = exc
        with contextlib.suppress(errors.Error):
            self._stream.end()

    def check(self) -> None:
        """Raise what kept the items from being sent."""
        if self._failure is not None:
            raise self._failure


class InputLines:
    """The lines of the standard input, each a JSON message; empty ones are left out.

    Iterating raises `click.UsageError` for a line that is no JSON.
    """

    def __init__(self) -> None:
        self._closed = threading.Event()

    def close(self) -> None:
        """Leave the rest of the input to others."""
        self._closed.set()

    def __iter__(self) -> Iterator[bytes]:
        for number, line in enumerate(self._lines(), 1):
            if text := line.strip():
                try:
                    codec.decode(text)
                except errors.BadRequest as exc:
                    detail = f"line {number} of the input is no JSON: {exc.detail}"
                    raise click.UsageError(detail) from None
                yield text

    def _lines(self) -> Iterator[bytes]:
        # Not sys.stdin: a thread that waits in it would keep Python from ending.
        rest, descriptor = b"", sys.stdin.fileno()
        while not self._closed.is_set():
            ready = select.select([descriptor], [], [], _POLL)[0]
            if not ready or self._closed.is_set():
                continue
            data = os.read(descriptor, _CHUNK)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if not data:
                break
        if rest:
            yield rest
