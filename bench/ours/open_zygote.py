"""A zygote whose workers nothing closes in, to see what the walls cost: for benches alone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from microcosmos.base import lifespan
from microcosmos.base.home import Home
from microcosmos.functions.zygote.kinds import kinds
from microcosmos.functions.zygote.process import Zygote
from microcosmos.server.main import run
from microcosmos.server.platform import Commands
from microcosmos.server.settings import load


def zygote() -> None:
    """Be the zygote."""
    home = Home()
    bare = {name: dataclasses.replace(kind, within=None) for name, kind in kinds(home).items()}
    made = Zygote(home.zygote_socket, bare, home.lanes, int(os.environ[lifespan.LIFELINE]))
    made.open(("quickjs",))
    lifespan.report_ready()
    made.run()


def server() -> None:
    """Be the server."""
    argv = [sys.executable, str(Path(__file__)), "zygote"]
    asyncio.run(run(load(), Commands(zygote=argv)))


if __name__ == "__main__":
    zygote() if sys.argv[1:] == ["zygote"] else server()
