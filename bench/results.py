"""RESULTS.md: one section a bench, each rewritten only when its bench has run."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from harness import Outcome, contender
from lab import BENCH, MOLECULER, ROOT, Timing
from targets import BENCHES, Target

RESULTS = BENCH / "RESULTS.md"
INTRODUCTION = """# Results

Written by `make bench`; [README.md](README.md) says how to read it. Each figure is the median of
the rounds, with the least and the greatest; ratios are taken round by round. A section tells the
day and the machine it was measured on.
"""


def write(name: str, outcome: Outcome, timing: Timing) -> None:
    """Put the section of a bench that ran into the file; the others stay as they are."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    sections = _sections(text)
    sections[name] = "\n".join(_section(name, outcome, timing)).rstrip() + "\n"
    ordered = [sections[name] for name in BENCHES if name in sections]
    RESULTS.write_text("\n".join([INTRODUCTION, *ordered]))


def verdicts(outcome: Outcome) -> Iterator[tuple[Target, str, str]]:
    """Each target with its measured figure and what became of it, in words."""
    for target in outcome.bench.targets:
        measured = outcome.judged(target)
        if measured is None:
            yield target, "", "not measured"
        else:
            yield target, str(measured), "met" if target.met(measured.median) else "**missed**"


def _conditions(outcome: Outcome, timing: Timing) -> str:
    now = datetime.datetime.now(datetime.UTC)
    machine = f"{_cpu()}, {os.cpu_count()} cores, {_others(outcome)} in use by others"
    rounds = max((len(visits) for visits in outcome.rounds.values()), default=0)
    turns = f"{rounds} rounds of {timing.seconds} s"
    versions = ", ".join(f"{name} {version}" for name, version in _versions())
    return f"{now:%Y-%m-%d %H:%M} UTC · {machine} · {turns}\n\n{versions}"


def _others(outcome: Outcome) -> str:
    return f"{statistics.median(outcome.others):.0%} (up to {max(outcome.others):.0%})"


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)
    return {
        name: f"## {name}\n\n{body.strip()}\n"
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _section(name: str, outcome: Outcome, timing: Timing) -> Iterator[str]:
    yield f"## {name}\n\n{outcome.bench.title}. Layout: {outcome.layout.name}.\n"
    yield f"{_conditions(outcome, timing)}\n"
    yield from _table(["target", "promised", "measured", ""], _target_rows(outcome))
    figures = dict.fromkeys(f for visits in outcome.rounds.values() for f in visits[0])
    yield from _table(["contender", *figures], _contender_rows(outcome, figures))


def _target_rows(outcome: Outcome) -> Iterator[list[str]]:
    for target, measured, verdict in verdicts(outcome):
        yield [target.text, target.promise, measured, verdict]


def _contender_rows(outcome: Outcome, figures: Iterable[str]) -> Iterator[list[str]]:
    for name in outcome.bench.contenders:
        label = f"`{name}`: {(contender(name).__doc__ or '').strip().rstrip('.')}"
        if name in outcome.absent:
            yield [label, outcome.absent[name]]
        else:
            spreads = outcome.figures(name)
            yield [label, *(str(spreads.get(figure, "")) for figure in figures)]


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row(["---"] * len(head))
    for row in rows:
        yield _row([*row, *[""] * (len(head) - len(row))])
    yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cpu() -> str:
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.+)", info)
    return model[1] if model else platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    yield "microcosmos", _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    yield "Python", platform.python_version()
    for package in ("granian", "nats-py", "uvloop", "msgspec"):
        yield package, metadata.version(package)
    server = Path(sys.executable).with_name("nats-server")
    yield "nats-server", _output(str(server), "--version").rpartition("v")[2]
    yield "Node", _output("node", "--version").removeprefix("v")
    for package in ("moleculer", "moleculer-web"):
        yield package, _npm_version(package)


def _npm_version(package: str) -> str:
    manifest = MOLECULER / "node_modules" / package / "package.json"
    if not manifest.exists():
        return "not installed"
    version: str = json.loads(manifest.read_text())["version"]
    return version


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return done.stdout.strip()
