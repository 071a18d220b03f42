"""`micro run --watch`: tells when a folder's source has changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from .ignore import Ignore

DELAY = 1.0
"""Seconds of quiet after a change before it is told."""


def changes(
    folder: Path, *, delay: float = DELAY, stop: threading.Event | None = None
) -> Iterator[list[str]]:
    """The names of changed files, each time some have changed and then been left alone.

    Args:
        folder: what to watch; what `.gitignore` leaves out is not.
        delay: how long to wait for further changes, in seconds.
        stop: ends the iteration when set.
    """
    # Here, because only --watch needs it and its engine takes a while to load.
    from watchfiles import watch

    root = folder.resolve()
    step = max(1, int(delay * 1000))
    for found in watch(root, watch_filter=None, debounce=2 * step, step=step, stop_event=stop):
        # Afresh each time: the .gitignore may be what has changed.
        ignore = Ignore(root)
        names = sorted({str(Path(path).relative_to(root)) for _, path in found})
        if kept := [name for name in names if name != "." and not ignore.ignores(name)]:
            yield kept
