"""The sockets of connections, which Granian keeps to itself.

Two things need them. An answer that is streamed has no other way to learn that its client does not
read: Granian takes whatever it is given. And Granian's own WebSockets can neither ping nor say why
they close, and cost ten times the memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from typing import Any

from .backlog import Backlog


class Held:
    """A copy of a connection's socket.

    Attributes:
        number: Granian's descriptor of it.
        socket: the copy.
    """

    def __init__(self, number: int, copy: socket.socket, taken: set[int]) -> None:
        self.number = number
        self.socket = copy
        self._taken = taken
        self._numbers = {number, copy.fileno()}
        taken |= self._numbers

    def unsent(self) -> int:
        """Bytes that the kernel still holds for the client."""
        if sys.platform != "linux":
            return 0
        return int(
            struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        )

    def release(self) -> None:
        """Close the copy; Granian's is free to be closed from now on."""
        self._taken -= self._numbers
        self._numbers = set()
        self.socket.close()


class Descriptors:
    """Finds the sockets of this process' connections by their clients."""

    def __init__(self) -> None:
        # Those that are held need not be looked at: of many thousand, most are.
        self._taken: set[int] = set()
        self._shared: dict[str, Backlog] = {}

    def share(self, number: int, scope: Any) -> Backlog:
        """The account of a connection that several answers share; who shares it leaves it."""
        client = connection_of(scope).client
        backlog = self._shared.get(client)
        if backlog is None:
            backlog = self._shared[client] = Backlog(number)
        backlog.users += 1
        return backlog

    def leave(self, scope: Any) -> None:
        """One answer of a connection has ended."""
        client = connection_of(scope).client
        backlog = self._shared[client]
        backlog.users -= 1
        if not backlog.users:
            del self._shared[client]

    def find(self, scope: Any) -> int | None:
        """The descriptor of a request's connection, or None if it has just gone."""
        connection = connection_of(scope)
        client, port = _parts(connection.client), _parts(connection.server)[1]
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are numbers here
            number = int(name)
            if number not in self._taken and _is(number, client, port):
                return number
        return None

    def hold(self, scope: Any) -> Held | None:
        """A copy of the socket of a request's connection, or None if it has just gone."""
        number = self.find(scope)
        return None if number is None else self.copy(number, scope)

    def copy(self, number: int, scope: Any) -> Held | None:
        """A copy of a socket that was found before; None if the number is another's by now."""
        connection = connection_of(scope)
        try:
            copy = os.dup(number)
        except OSError:
            return None
        # A copy cannot become another's, so what it is now it stays.
        if not _is(copy, _parts(connection.client), _parts(connection.server)[1]):
            os.close(copy)
            return None
        return Held(number, socket.socket(fileno=copy), self._taken)


def connection_of(scope: Any) -> Any:
    """A scope as Granian gave it: policies may have put another client and scheme before it."""
    return getattr(scope, "connection", scope)


def writable(number: int) -> bool:
    """Whether a socket takes more, or is gone."""
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(0))


def _is(number: int, client: tuple[str, str], port: str) -> bool:
    """Whether a descriptor is the connection of a client to one of our ports."""
    with contextlib.suppress(OSError):
        # The family is not asked for, as that would cost a system call; addresses have their own.
        looked_at = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
        try:
            there = looked_at.getpeername()
            if not isinstance(there, tuple) or str(there[1]) != client[1]:
                return False
            here = looked_at.getsockname()
            return _host(there[0]) == client[0] and str(here[1]) == port
        finally:
            looked_at.detach()
    return False


def _parts(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return _host(host), port


def _host(text: str) -> str:
    return text.strip("[]").partition("%")[0]
