"""A zygote whose workers are peers, for tests: forked ones, and ones that are programs."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from microcosmos.base import errors, lifespan, log
from microcosmos.base.home import Home
from microcosmos.functions.zygote.kinds import Command, Executed, Forked
from microcosmos.functions.zygote.process import Zygote

sys.path.insert(0, str(Path(__file__).parent))

import peer

PEER = str(Path(__file__).with_name("peer.py"))


def program(*argv: str) -> Command:
    return lambda path, heap: ([sys.executable, *argv, str(path)], {"HEAP": str(heap)})


def absent(path: Path, heap: int) -> tuple[list[str], dict[str, str]]:
    raise errors.Unavailable("functions.deno", "it is not installed here; pip install deno")


def raising(listener: object) -> None:
    raise RuntimeError("at once")


def shouting(listener: object) -> None:
    os.write(2, b"\x1b[2Jcleared\n")
    for _ in range(100):
        os.write(2, (b"x" * 99 + b"\n") * 100)


def bare(listener: socket.socket) -> None:
    listener.accept()


KINDS = {
    "bare": Forked(lambda: bare, None),
    "quickjs": Forked(lambda: peer.telling, None),
    # Nobody knows whom it runs, as of a worker that is a program.
    "monty": Forked(lambda: peer.run, None),
    "raising": Forked(lambda: raising, None),
    "shouting": Forked(lambda: shouting, None),
    "deno": Executed(program(PEER), None),
    "ending": Executed(program("-c", "raise SystemExit(7)"), None),
    "deaf": Executed(program("-c", "import time; time.sleep(60)"), None),
    "nowhere": Executed(lambda path, heap: (["/nonexistent"], {}), None),
    "absent": Executed(absent, None),
}

if __name__ == "__main__":
    log.setup()
    home = Home()
    lifeline = int(os.environ[lifespan.LIFELINE])
    zygote = Zygote(home.zygote_socket, KINDS, home.lanes, lifeline, patience=1.0)
    zygote.open(("quickjs",))
    lifespan.report_ready()
    zygote.run()
