"""The looker: opens for a worker what the system tells of the memory of its sandboxes.

Within its walls a worker opens nothing below ``/proc``, as everything there is of other processes.
So before they go up it forks one that may open just that, has walls of its own, and hands over
what is open: of children of the worker, and of nobody else.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from microcosmos.functions.walls import enter, profiles

_NUMBER = 4


class Looker:
    """The worker's end.

    Args:
        line: to the looker.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def open(self, pid: int) -> int:
        """A descriptor of what is told of the memory of a child; -1 if there is no such child."""
        try:
            self._line.sendall(pid.to_bytes(_NUMBER, "little"))
            _, descriptors, _, _ = socket.recv_fds(self._line, 1, 1)
        except OSError:
            return -1
        return descriptors[0] if descriptors else -1


_own: list[Looker] = []


def begin(missing: frozenset[str] | None = None) -> tuple[int, ...]:
    """Fork the looker of this process; gives the descriptors that the process has to keep.

    Args:
        missing: walls that need not be there.
    """
    if sys.platform != "linux":
        return ()
    mine, theirs = socket.socketpair()
    worker = os.getpid()
    if os.fork():
        theirs.close()
        _own[:] = [Looker(mine)]
        return (mine.fileno(),)
    try:
        enter(profiles.looker(), descriptors=(theirs.fileno(),), missing=missing)
        _look(theirs, worker)
    finally:
        os._exit(0)


def memory_of(pid: int) -> int:
    """What `Looker.open` gives; of anybody, in a process that has no looker."""
    if _own:
        return _own[0].open(pid)
    return _memory_of(pid)


def _look(line: socket.socket, worker: int) -> None:
    while len(asked := line.recv(_NUMBER, socket.MSG_WAITALL)) == _NUMBER:
        pid = int.from_bytes(asked, "little")
        # Until its parent, who asks, has reaped it, its number is nobody else's.
        found = _memory_of(pid) if _parent_of(pid) == worker else -1
        socket.send_fds(line, [b"."], [found] if found >= 0 else [])
        if found >= 0:
            os.close(found)


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def _memory_of(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/statm", os.O_RDONLY)
    except OSError:
        return -1
