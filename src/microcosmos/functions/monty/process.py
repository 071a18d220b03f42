"""The process of a sandbox, looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys

from microcosmos.functions import cpu

from . import looker

_PAGE = os.sysconf("SC_PAGESIZE")


class Process:
    """A process that another library has started, and will reap.

    On Linux it is held by a descriptor: whatever becomes of it, no other process that is given its
    number is ever taken for it. Elsewhere the number has to do, and nobody tells of its death.

    Attributes:
        pid: its number.
        death: done when it has ended.

    Raises:
        ProcessLookupError: there is no such process any more.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self.death: asyncio.Future[None] = self._loop.create_future()
        self._cpu = 0.0
        self._held = self._pages = -1
        if sys.platform == "linux":
            self._held = os.pidfd_open(pid)
            self._loop.add_reader(self._held, self._died)
            self._poll = select.poll()
            self._poll.register(self._held, select.POLLIN)
            self._pages = looker.memory_of(pid)

    @property
    def lives(self) -> bool:
        """Whether it has not ended yet."""
        # The loop may not have come round to it.
        return not self.death.done() and not (self._held >= 0 and self._poll.poll(0))

    @property
    def cpu(self) -> float:
        """Seconds of the processor that it has used, as last seen."""
        with contextlib.suppress(ProcessLookupError):
            self._cpu = max(self._cpu, cpu.used(self.pid))
        return self._cpu

    @property
    def heap(self) -> int:
        """Bytes of memory that are its own; 0 if it has ended."""
        if sys.platform != "linux":
            return _elsewhere(self.pid)
        try:
            _, resident, shared, *_ = os.pread(self._pages, 100, 0).split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * _PAGE

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "linux":
                signal.pidfd_send_signal(self._held, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it."""
        if self._held >= 0:
            self._loop.remove_reader(self._held)
            os.close(self._held)
        if self._pages >= 0:
            os.close(self._pages)

    def _died(self) -> None:
        self._loop.remove_reader(self._held)
        if not self.death.done():
            self.death.set_result(None)


def _elsewhere(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
