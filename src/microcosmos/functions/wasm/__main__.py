"""One worker by itself, in its walls: ``python -m microcosmos.functions.wasm SOCKET FOLDER``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from microcosmos.functions.walls import enter, profiles

from .worker import prepare, run


def main() -> int:
    """Listen on the socket that is named, and work."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m microcosmos.functions.wasm SOCKET FOLDER\n")
        return 64
    path = Path(sys.argv[1])
    kept = prepare(Path(sys.argv[2]))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(128)
        enter(profiles.wasm(), descriptors=(listener.fileno(), *kept))
        # The socket's file stays: it is out of reach from now on.
        run(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
