"""Counts as a gateway does: ``count.py FILE TIMES`` tells how many passed a quota of 10,000."""

import sys
from pathlib import Path

from microcosmos.gateway.front.counters import Counters
from microcosmos.gateway.front.limits import Asked, Limits, TooMany
from microcosmos.gateway.front.settings import Limit

counters = Counters(Path(sys.argv[1]))
limits = Limits([Limit(quota="10000/day", key="all")], counters, lambda: 1_800_000_000.0)
asked = Asked("/x", "192.0.2.1", lambda name: "")
sys.stdin.readline()
passed = 0
for _ in range(int(sys.argv[2])):
    try:
        limits.check(asked)
    except TooMany:
        continue
    passed += 1
sys.stdout.write(f"{passed}\n")
