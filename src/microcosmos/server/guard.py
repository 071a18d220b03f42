"""The guard: a tiny process that ends every process group of a supervisor that was killed.

The parent-death signal is Linux's alone and reaches children only, not theirs. The guard reads
``+pid`` and ``-pid`` lines from the supervisor; at the end of file it kills the groups that are
left. It is run by path in an isolated interpreter, so it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Keep the list until the supervisor is gone, then kill what is on it."""
    # A Ctrl-C or a stop of everything is the supervisor's to handle; the guard outlives it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            groups.add(pid)
        else:
            groups.discard(pid)
    for pid in groups:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
