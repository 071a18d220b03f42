"""The connections of this process, which Granian keeps to itself."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any


def abort(client: str) -> None:
    """Close the connection of a client, whatever is under way on it.

    That is how a client sees that a response is not whole: Granian itself can only end it well.

    Args:
        client: as RSGI names it, ``127.0.0.1:40000``.
    """
    for name, connection in connections():
        if name == client:
            connection.shutdown(socket.SHUT_RDWR)


def connections(port: int | None = None) -> Iterator[tuple[str, socket.socket]]:
    """This process' connections to a port of its own, or all, by their peers as RSGI names them.

    Each is a copy, good until the next one: its number cannot become another's meanwhile.
    """
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are numbers here
        connection = _socket(int(name))
        if connection is None:
            continue
        with contextlib.suppress(OSError):
            here, there = connection.getsockname(), connection.getpeername()
            if isinstance(here, tuple) and port in (None, here[1]):
                yield _client(there), connection
        connection.close()


def _socket(descriptor: int) -> socket.socket | None:
    """A copy of a socket, or None if it is no socket, or has just been closed."""
    copy = -1
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
        return socket.socket(fileno=copy)
    except OSError:
        if copy >= 0:
            os.close(copy)
        return None


def _client(address: tuple[Any, ...]) -> str:
    if len(address) == 2:
        return f"{address[0]}:{address[1]}"
    scope = f"%{address[3]}" if address[3] else ""
    return f"[{address[0]}{scope}]:{address[1]}"
