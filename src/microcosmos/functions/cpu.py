"""How much of the processor another process has used, and whether it wants any."""

from __future__ import annotations

import sys
import time
from pathlib import Path


def used(pid: int) -> float:
    """Seconds of the processor that a process has used so far, all its threads together.

    Raises:
        ProcessLookupError: there is no such process.
    """
    if sys.platform != "linux":
        return _elsewhere(pid)
    try:
        # The clock of another process, as clock_getcpuclockid(3) makes it: exact, where /proc
        # counts hundredths of a second.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        raise ProcessLookupError(pid) from None


def asleep(pid: int) -> bool:
    """Whether the main thread of a process waits for something, the processor excepted.

    One that waits for the processor, for a disk or for a signal to go on is not asleep, nor is one
    of which nothing can be told here.
    """
    try:
        # See proc_pid_stat(5): the state follows the name, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except (OSError, IndexError):
        return False


def _elsewhere(pid: int) -> float:
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        raise ProcessLookupError(pid) from None
    return float(times.user + times.system)
