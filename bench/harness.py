"""Rounds: the contenders of a bench take turns, so that a busy minute hits them all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import contenders
import functions_subjects
import subjects
from lab import Failed, Figures, Lab, Layout, Timing, Unavailable
from targets import Bench, Target


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


@dataclass
class Outcome:
    """What a bench gave: figures of each round, or why a contender has none."""

    bench: Bench
    layout: Layout
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    others: list[float] = field(default_factory=list)
    """Shares of the CPU that other people's processes used, sampled before each visit."""

    def figures(self, contender: str) -> dict[str, Spread]:
        """Every figure of a contender."""
        visits = self.rounds[contender]
        return {name: spread([visit[name] for visit in visits]) for name in visits[0]}

    def judged(self, target: Target) -> Spread | None:
        """The figure that a target is about, its ratios taken round by round; None without it."""
        if {target.ours, target.peer} & self.absent.keys():
            return None
        ours = [visit[target.figure] for visit in self.rounds[target.ours]]
        if not target.peer:
            return spread(ours)
        theirs = [visit[target.figure] for visit in self.rounds[target.peer]]
        return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def run(bench: Bench, layout: Layout, timing: Timing, rounds: int) -> Outcome:
    """Let the contenders of a bench take turns; one that cannot take part is left out."""
    outcome = Outcome(bench, layout)
    for turn in range(1, rounds + 1):
        for name in bench.contenders:
            if name not in outcome.absent:
                _visit(outcome, name, timing)
                _tell(outcome, name, turn)
    return outcome


def contender(name: str) -> Callable[[Lab], Figures]:
    """The function of a contender: a peer's or one of ours."""
    homes = (subjects, functions_subjects, contenders)
    function: Callable[[Lab], Figures] = next(
        getattr(home, name) for home in homes if hasattr(home, name)
    )
    return function


def _visit(outcome: Outcome, name: str, timing: Timing) -> None:
    outcome.others.append(_busy(0.2))
    try:
        with Lab(outcome.layout, timing) as lab:
            figures = contender(name)(lab)
        outcome.rounds.setdefault(name, []).append(figures)
    except Unavailable as reason:
        outcome.absent[name] = str(reason)
    except Failed as reason:
        outcome.absent[name] = f"failed: {str(reason).splitlines()[0]}"
        outcome.failed = True
        print(f"  {name} failed: {reason}", flush=True)


def _busy(seconds: float) -> float:
    """The share of the machine's CPU time that is used while we do nothing."""
    idle_before, total_before = _cpu_times()
    time.sleep(seconds)
    idle, total = _cpu_times()
    return 1 - (idle - idle_before) / max(1, total - total_before)


def _cpu_times() -> tuple[int, int]:
    times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return times[3] + times[4], sum(times)


def _tell(outcome: Outcome, name: str, turn: int) -> None:
    if name in outcome.absent:
        print(f"  {name}: {outcome.absent[name]}", flush=True)
        return
    figures = outcome.rounds[name][-1]
    text = ", ".join(f"{number(value)} {figure}" for figure, value in figures.items())
    print(f"  round {turn} {name}: {text}", flush=True)


def spread(values: list[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def number(value: float) -> str:
    """Three digits that say something, whatever the size."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
