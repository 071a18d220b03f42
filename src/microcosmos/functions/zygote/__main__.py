"""``python -m microcosmos.functions.zygote``: the process, as the supervisor starts it."""

from __future__ import annotations

import os

from microcosmos.base import lifespan, log
from microcosmos.base.home import Home

from .kinds import kinds
from .process import Zygote

WARM = ("quickjs",)
"""Kinds whose workers are forked warm from the start."""


def main() -> None:
    """Work for the host of this home."""
    log.setup()
    home = Home()
    lifeline = os.environ.get(lifespan.LIFELINE, "")
    descriptor = int(lifeline) if lifeline.isdecimal() else -1
    zygote = Zygote(home.zygote_socket, kinds(home), home.lanes, descriptor)
    zygote.open(WARM)
    lifespan.report_ready()
    zygote.run()


if __name__ == "__main__":
    main()
