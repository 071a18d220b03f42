"""Run the benches: all of them, or those named. See README.md beside this file."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys

import harness
import results
from lab import Timing, layouts
from targets import BENCHES

QUICK = Timing(warmup=1, seconds=1)
BUSY = 0.1
"""The share of the CPU that others may use before the figures are called rough."""


def main() -> int:
    """Run, print, write RESULTS.md; 1 when a contender failed. A missed target is no failure."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds = 2 if options.quick else options.rounds
    timing = QUICK if options.quick else Timing()
    outcomes = {}
    for name in options.names or BENCHES:
        bench = BENCHES[name]
        print(f"{name}: {bench.title}", flush=True)
        outcomes[name] = harness.run(bench, layouts()[bench.layout], timing, rounds)
        _print_verdicts(outcomes[name])
        if not options.dry:
            results.write(name, outcomes[name], timing)
    return int(any(outcome.failed for outcome in outcomes.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure microcosmos beside its peers.")
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    parser.add_argument("--quick", action="store_true", help="two rounds of one second")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHES.keys():
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}")
    return options


def _print_verdicts(outcome: harness.Outcome) -> None:
    if statistics.median(outcome.others) > BUSY:
        print("  the machine is in use by others: take these figures as rough", flush=True)
    for target, measured, verdict in results.verdicts(outcome):
        said = f"{measured}, {verdict.strip('*')}" if measured else verdict
        print(f"  {target.text}: {target.promise}: {said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
