"""Hangs in the middle of counting, as a gateway that was stopped: ``hang.py FILE KEY``."""

import signal
import sys
from pathlib import Path

from microcosmos.gateway.front.counters import Counters, Value


def stay(_: Value | None) -> Value:
    sys.stdout.write("counting\n")
    sys.stdout.flush()
    signal.pause()
    return 0.0, 0.0


Counters(Path(sys.argv[1])).change(sys.argv[2], stay)
