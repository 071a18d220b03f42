"""A lock between processes: a file that only one of them holds at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait for a lock and hold it while the block runs; Windows has no flock and does without.

    Args:
        lock: a file beside what it guards; it is made, and stays.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = _open(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take(lock: Path) -> int | None:
    """Take a lock if nobody holds it; the descriptor that holds it until it is closed, or None."""
    descriptor = _open(lock)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except ImportError:
        pass
    return descriptor


def _open(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
