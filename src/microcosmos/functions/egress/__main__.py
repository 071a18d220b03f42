"""The egress: ``python -m microcosmos.functions.egress``, started by the supervisor.

It listens before it has read what it needs to answer, which takes a while: it does so when the
first sub-request comes, or when the server has long started. It may die at any moment; what was
under way is lost then, and the next one does what comes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from microcosmos.base import errors, lifespan, log
from microcosmos.base.home import Home

from .told import KEY, OWN

QUIET = 3.0
"""Seconds after which it reads what it needs, though nobody has asked for anything."""


def main() -> None:
    """Do sub-requests until SIGTERM, or until the supervisor is gone."""
    log.setup()
    home = Home()
    key, own = os.environ.pop(KEY, ""), os.environ.pop(OWN, "")
    with _listening(home.egress_lane) as listener:
        lifespan.report_ready()
        lifeline = os.environ.get(lifespan.LIFELINE, "")
        waiting: list[socket.socket | int] = [
            listener,
            *([int(lifeline)] if lifeline.isdecimal() else []),
        ]
        # What closes the lifeline is read of below, by what has a loop.
        select.select(waiting, [], [], QUIET)
        from .serving import serve

        serve(home, listener, key, [door for door in own.split(",") if door])


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket that only this user may open."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(16)
        listener.setblocking(False)
        yield listener


if __name__ == "__main__":
    try:
        main()
    except errors.Error as error:
        sys.exit(f"egress: {error.detail}")
    except OSError as error:
        sys.exit(f"egress: {error}")
