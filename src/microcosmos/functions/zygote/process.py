"""The zygote's loop: commands in, workers made, ends told. One thread, and no loop of asyncio."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from microcosmos.base import codec, errors
from microcosmos.functions.walls import Measured

from .children import Children
from .complaints import Complaints
from .kinds import Kind
from .messages import LONGEST, Command, Said, Worker, decode_command, encode

log = logging.getLogger("microcosmos.zygote")

START_LIMIT = 10.0
"""Seconds that a worker which is a program may take to listen."""

_POLL = 0.002
"""Seconds between two looks whether it does."""

_NONE = Measured([])

_UNREAD = 1024 * 1024
"""Bytes that a client may leave unread before it is cut off."""


class _Client:
    """Somebody who gives commands."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.unfinished = b""
        self.unsent = b""


class _Starting:
    """A worker that does not listen yet, and who asked for it."""

    def __init__(self, worker: Worker, client: _Client, id: int, until: float) -> None:
        self.worker = worker
        self.client = client
        self.id = id
        self.until = until


class Zygote:
    """Makes workers for whoever may open its socket.

    Args:
        path: the socket.
        kinds: of workers, by name.
        folder: where workers listen.
        lifeline: a descriptor that closes when the zygote is to end; -1 is none.
        patience: seconds that a worker which is a program may take to listen.
        walls: those that are there to close workers in.
    """

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, Kind],
        folder: Path,
        lifeline: int = -1,
        patience: float = START_LIMIT,
        walls: Measured = _NONE,
    ) -> None:
        self._patience = patience
        self._path = path
        self._lifeline = lifeline
        self._children = Children(kinds, folder, self._leave, self._hear, walls)
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._starting: list[_Starting] = []
        self._signals = -1, -1
        self._ending = False
        self._listener: socket.socket

    def open(self, warm: tuple[str, ...] = ()) -> None:
        """Listen, having loaded what workers of these kinds need."""
        for kind in warm:
            try:
                self._children.warm(kind)
            except Exception:
                # Those of other kinds can be made all the same.
                log.exception("workers of kind %s cannot be made", kind)
        self._listen_to_signals()
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        self._listener.bind(os.fspath(self._path))
        os.umask(mask)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._signals[0], selectors.EVENT_READ, self._signalled)
        if self._lifeline >= 0:
            self._selector.register(self._lifeline, selectors.EVENT_READ, self._orphaned)

    def run(self) -> None:
        """Work until asked to end by SIGTERM, or nobody is left to work for."""
        try:
            while not self._ending:
                wait = _POLL if self._starting else None
                for key, events in self._selector.select(wait):
                    if isinstance(key.data, _Client):
                        self._serve(key.data, events)
                    else:
                        key.data()
                self._look()
        finally:
            self._children.kill()
            self._path.unlink(missing_ok=True)

    # Signals.

    def _listen_to_signals(self) -> None:
        self._signals = os.pipe()
        for end in self._signals:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._signals[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked_to_end)
        # Ctrl-C is the supervisor's to handle.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _asked_to_end(self, *_: object) -> None:
        self._ending = True

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._signals[0], 4096):
                pass
        for ended in self._children.reap():
            self._tell_all(Said(exit=ended))
            for starting in self._starting:
                if starting.worker.pid == ended.pid:
                    self._failed(starting, f"it ended with status {ended.code} at once")

    def _orphaned(self) -> None:
        self._ending = True

    def _hear(self, descriptor: int) -> None:
        """A new worker complains there."""
        complaints = Complaints(descriptor)

        def read() -> None:
            if not complaints.read():
                self._selector.unregister(descriptor)
                os.close(descriptor)

        self._selector.register(descriptor, selectors.EVENT_READ, read)

    # Clients.

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            client = _Client(connection)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: _Client, events: int) -> None:
        if client not in self._clients:
            return
        if events & selectors.EVENT_WRITE:
            self._send(client)
        if events & selectors.EVENT_READ:
            self._read(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, client.unfinished = (client.unfinished + data).split(b"\n")
        for line in lines:
            self._answer(client, line)
        if not data or len(client.unfinished) > LONGEST:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.socket)
            client.socket.close()

    def _tell_all(self, said: Said) -> None:
        for client in list(self._clients):
            self._tell(client, said)

    def _tell(self, client: _Client, said: Said) -> None:
        if client in self._clients:
            client.unsent += encode(said) + b"\n"
            self._send(client)

    def _send(self, client: _Client) -> None:
        try:
            sent = client.socket.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.unsent = client.unsent[sent:]
        if len(client.unsent) > _UNREAD:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        self._selector.modify(client.socket, events, client)

    # Commands.

    def _answer(self, client: _Client, line: bytes) -> None:
        try:
            command = decode_command(line)
        except codec.DECODE_ERRORS as exc:
            self._tell(client, Said(error=f"not a command: {exc}"))
            return
        try:
            said = self._obey(client, command)
        except errors.Error as error:
            said = Said(command.id, error=error.detail, error_id=error.id)
        except Exception as exc:
            # Workers must not die because one of them could not be made.
            log.exception("%s failed", command.do)
            said = Said(command.id, error=f"{command.do} failed: {exc}")
        if said is not None:
            self._tell(client, said)

    def _obey(self, client: _Client, command: Command) -> Said | None:
        if command.do == "list":
            return Said(command.id, workers=self._children.living())
        if command.do == "kill":
            self._children.signal(command.pid, command.signal)
            return Said(command.id)
        if command.do == "look":
            return Said(command.id, running=self._children.running(command.pid))
        worker = self._children.start(command.kind, command.name, command.heap)
        if Path(worker.socket).exists():
            return Said(command.id, worker=worker)
        until = time.monotonic() + self._patience
        self._starting.append(_Starting(worker, client, command.id, until))
        return None

    def _look(self) -> None:
        """See which of those that start listen by now."""
        for starting in list(self._starting):
            if _listens(starting.worker.socket):
                self._starting.remove(starting)
                self._tell(starting.client, Said(starting.id, worker=starting.worker))
            elif time.monotonic() > starting.until:
                self._failed(starting, f"it did not listen within {self._patience:g} s")
                self._children.signal(starting.worker.pid, signal.SIGKILL)

    def _failed(self, starting: _Starting, why: str) -> None:
        self._starting = [one for one in self._starting if one is not starting]
        log.warning("a worker of kind %s could not start: %s", starting.worker.kind, why)
        self._tell(starting.client, Said(starting.id, error=f"a worker could not start: {why}"))

    def _leave(self) -> None:
        """In a worker, which has just been forked: close what is the zygote's."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._listener.close()
        for client in self._clients:
            client.socket.close()
        for end in self._signals:
            os.close(end)


def _listens(path: str) -> bool:
    """Whether somebody listens at a path."""
    if not Path(path).exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
