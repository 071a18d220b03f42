"""``python -m microcosmos.functions.zygote``: the process, as the supervisor starts it."""

from __future__ import annotations

import logging
import os

from microcosmos.base import lifespan
from microcosmos.base import log as logs
from microcosmos.base.home import Home
from microcosmos.functions import walls
from microcosmos.functions.walls import report

from .kinds import kinds
from .process import Zygote

log = logging.getLogger("microcosmos.zygote")

WARM = ("quickjs",)
"""Kinds whose workers are forked warm from the start."""


def main() -> None:
    """Work for the host of this home."""
    logs.setup()
    home = Home()
    lifeline = os.environ.get(lifespan.LIFELINE, "")
    descriptor = int(lifeline) if lifeline.isdecimal() else -1
    measured = _measured(home)
    zygote = Zygote(home.zygote_socket, kinds(home), home.lanes, descriptor, walls=measured)
    zygote.open(WARM)
    lifespan.report_ready()
    zygote.run()


def _measured(home: Home) -> walls.Measured:
    """What is there to close workers in, told to whoever asks; before there is a thread."""
    measured = walls.measure(walls.allowed())
    report.leave(home, measured)
    if measured.refusal:
        log.error(measured.refusal)
    elif measured.missing:
        log.warning("walls of functions: %s", measured.told)
    return measured


if __name__ == "__main__":
    main()
