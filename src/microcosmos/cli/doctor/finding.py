"""Findings, and how checks are made: at the same time, each within a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from microcosmos.base.home import Home
from microcosmos.cli.environments import Environments
from microcosmos.cli.render import one_line

LIMIT = 8.0
"""Seconds that a check may take; on a machine that does much else, all take longer."""

Status = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the answer.

    Attributes:
        check: which check says so; it keeps its name over versions.
        status: ``warn`` may be on purpose, ``fail`` is not.
        what: what was found.
        advice: what to do about it; empty where there is nothing to do.
    """

    check: str
    status: Status
    what: str
    advice: str = ""

    def readable(self) -> str:
        """The line for people."""
        advice = f"  \N{EM DASH} {one_line(self.advice)}" if self.advice else ""
        return f"{self.status:<4}  {one_line(self.what)}{advice}"


class Subject(NamedTuple):
    """What is examined.

    Attributes:
        home: the MICRO_HOME.
        environments: the platforms that the user knows.
        chosen: the one asked for; empty is the selected one.
        environ: the environment variables.
    """

    home: Home
    environments: Environments
    chosen: str
    environ: Mapping[str, str]


class Report:
    """What one check says."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def ok(self, what: str) -> None:
        """This is as it should be."""
        self.findings.append(Finding(self.check, "ok", what))

    def warn(self, what: str, advice: str = "") -> None:
        """This may be on purpose, or trouble later."""
        self.findings.append(Finding(self.check, "warn", what, advice))

    def fail(self, what: str, advice: str = "") -> None:
        """This does not work."""
        self.findings.append(Finding(self.check, "fail", what, advice))


Check = Callable[[Subject, Report], None]


def examine(
    checks: Iterable[tuple[str, Check]], subject: Subject, limit: float = LIMIT
) -> list[Finding]:
    """Make all checks at once; the findings stand in the order of the checks.

    A check that raises is a warning, one that is not done within the limit has failed.
    """
    running = [_Running(name, check, subject) for name, check in checks]
    deadline = time.monotonic() + limit
    found: list[Finding] = []
    for one in running:
        one.thread.join(max(0.0, deadline - time.monotonic()))
        found += one.findings(limit)
    return found


class _Running:
    def __init__(self, name: str, check: Check, subject: Subject) -> None:
        self._name = name
        self._check = check
        self._done: list[Finding] | None = None
        # A daemon: what hangs, as on a file system that is gone, does not keep the program alive.
        self.thread = threading.Thread(target=self._run, args=(subject,), daemon=True)
        self.thread.start()

    def _run(self, subject: Subject) -> None:
        report = Report(self._name)
        try:
            self._check(subject, report)
        except Exception as exc:  # noqa: BLE001 - the other checks have their say
            why = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            report.warn(f"{self._name} could not be checked: {why}")
        self._done = report.findings

    def findings(self, limit: float) -> list[Finding]:
        if self._done is None:
            report = Report(self._name)
            report.fail(f"{self._name} could not be checked within {limit:g} s", "look at it")
            return report.findings
        return self._done
