"""``python -m microcosmos.functions.monty SOCKET``: a worker on a new socket, within its walls."""

from __future__ import annotations

import os
import socket
import sys

from microcosmos.functions.walls import enter, profiles

from . import looker
from .program import program
from .worker import run


def main() -> None:
    """Listen at a path, for this user only, and work."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    listener.bind(sys.argv[1])
    os.umask(mask)
    listener.listen(128)
    enter(profiles.monty(program()), descriptors=(listener.fileno(), *looker.begin()))
    run(listener)


if __name__ == "__main__":
    main()
