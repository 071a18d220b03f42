"""This machine: Python, packages, programs, limits, clock and variables."""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from microcosmos.base import errors

from .finding import Report, Subject

PYTHON = (3, 11)
"""The oldest Python that is supported."""

FILES = 1_024
"""Open files that a process of a busy platform may want."""

PROCESSES = 512
"""Processes and threads that a platform with some services may want."""

PROGRAM_LIMIT = 5.0
"""Seconds that a program may take to tell its version."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")
# What other parts of this package and of the programs it starts read; settings come on top.
_VARIABLES = {
    "MICRO_AUTH_ID",
    "MICRO_AUTH_SECRET_FILE",
    "MICRO_DEBUG",
    "MICRO_EGRESS_KEY",
    "MICRO_EGRESS_OWN",
    "MICRO_ENV",
    "MICRO_EXPOSED",
    "MICRO_GATEWAY_FD",
    "MICRO_HOME",
    "MICRO_LANE",
    "MICRO_LIFELINE",
    "MICRO_LOG_FORMAT",
    "MICRO_LOG_LEVEL",
    "MICRO_NAMESPACE",
    "MICRO_PROXY_CA_FILE",
    "MICRO_PROXY_CERT_FILE",
    "MICRO_PROXY_KEY_FILE",
    "MICRO_READY_FD",
    "MICRO_REPLICA",
    "MICRO_SERVICE_NAME",
    "MICRO_SERVICE_VERSION",
    "MICRO_STATE",
}


def python(_: Subject, report: Report) -> None:
    """Which Python runs this."""
    version = platform.python_version()
    if sys.version_info[:2] < PYTHON:
        report.fail(f"Python {version} is too old", f"install Python {PYTHON[0]}.{PYTHON[1]}")
    else:
        report.ok(f"Python {version} ({platform.python_implementation()}) at {sys.executable}")


def packages(_: Subject, report: Report) -> None:
    """Whether the packages that this one stands on are there, and new enough."""
    required = list(_required())
    wrong = [text for name, floor in required if (text := _outdated(name, floor))]
    for text in wrong:
        report.fail(text, "pip install --upgrade microcosmos")
    if not wrong:
        own = metadata.version("microcosmos")
        report.ok(f"microcosmos {own}, with the {len(required)} packages that it needs")


def _required() -> Iterator[tuple[str, str]]:
    for line in metadata.requires("microcosmos") or ():
        text, _, marker = line.partition(";")
        found = _REQUIREMENT.match(text.replace(" ", ""))
        elsewhere = "extra" in marker or ("win32" in marker and sys.platform == "win32")
        if found and not elsewhere:
            yield found[1], found[2]


def _outdated(name: str, floor: str) -> str:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"the package {name} is missing"
    return f"{name} {version} is older than {floor}" if _parts(version) < _parts(floor) else ""


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def command(_: Subject, report: Report) -> None:
    """Whether the `micro` on PATH is this one."""
    first = shutil.which("micro")
    beside = Path(sys.executable).with_name("micro")
    if first is None:
        report.warn("micro is not on PATH", f"add {beside.parent} to PATH")
    elif Path(first).resolve() != beside.resolve() and beside.exists():
        report.warn(f"the first micro on PATH is another one: {first}", f"this one is {beside}")
    else:
        report.ok(f"micro is {first}")


def limits(_: Subject, report: Report) -> None:
    """How many files and processes this user may have."""
    import resource

    kinds = (
        ("open files", resource.RLIMIT_NOFILE, FILES, "ulimit -n"),
        ("processes", resource.RLIMIT_NPROC, PROCESSES, "ulimit -u"),
    )
    for what, kind, floor, how in kinds:
        soft, hard = resource.getrlimit(kind)
        if soft == resource.RLIM_INFINITY:
            report.ok(f"{what}: no limit")
        elif soft < floor:
            least = floor if hard == resource.RLIM_INFINITY else min(floor, hard)
            more = f"{how} {least}" if least > soft else f"raise the hard limit, {how} -H"
            report.warn(f"{what}: at most {soft:,}", f"{more} in the shell that starts the server")
        else:
            report.ok(f"{what}: at most {soft:,}")


def clock(subject: Subject, report: Report) -> None:
    """Whether the clock tells a time that can be."""
    now = time.time()
    # Nothing of this installation can have been written later than now.
    written = Path(__file__).stat().st_mtime
    shown = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < written - 60:
        report.fail(f"the clock says {shown}, before this was installed", "set the clock (NTP)")
        return
    info = subject.home.server_info()
    if info is not None and info.started > now + 5:
        report.fail(f"the clock says {shown}, before the server's start", "set the clock (NTP)")
        return
    report.ok(f"the clock says {shown}")


def tools(_: Subject, report: Report) -> None:
    """The programs that `micro run` calls."""
    try:
        from uv import find_uv_bin

        _tool(report, "uv", find_uv_bin())
    except (ImportError, FileNotFoundError):
        report.fail("uv is missing: services with requirements cannot run", "pip install uv")
    advice = {
        "git": "install git; without it sources are fetched more slowly, by dulwich",
        "node": "install Node.js to run services written for it",
        "npm": "install npm to run Node services with dependencies",
    }
    for name, missing in advice.items():
        if path := shutil.which(name):
            _tool(report, name, path)
        else:
            report.warn(f"{name} is not on PATH", missing)


def _tool(report: Report, name: str, path: str) -> None:
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PROGRAM_LIMIT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        report.warn(f"{name} at {path} does not tell its version: {type(exc).__name__}")
        return
    found = re.search(r"\d+(\.\d+)+", told)
    report.ok(f"{name} {found[0] if found else ''} at {path}")


def variables(subject: Subject, report: Report) -> None:
    """Whether every MICRO_ variable means something, and what it says is understood."""
    from difflib import get_close_matches

    from microcosmos.server import settings

    known = known_variables()
    names = sorted(name for name in subject.environ if name.upper().startswith("MICRO_"))
    unknown = [name for name in names if name not in known]
    for name in unknown:
        close = get_close_matches(name.upper(), known, 1)
        meant = f"did you mean {close[0]}?" if close else "nothing reads it; unset it"
        report.warn(f"the variable {name} is not known", meant)
    try:
        settings.load(subject.environ, home=str(subject.home.path))
    except errors.Error as error:
        report.fail(error.detail, "mend what it names, or take it out")
        return
    if not unknown:
        report.ok(f"variables: {', '.join(names)}" if names else "no MICRO_ variables are set")


def plugins(_: Subject, report: Report) -> None:
    """Whether what other packages bring can be imported."""
    from microcosmos.base import plugins, profiles
    from microcosmos.store import GROUP

    brought = [(group, name) for group in (GROUP, profiles.GROUP) for name in plugins.names(group)]
    sound = []
    for group, name in brought:
        try:
            if entry := plugins.found(group, name):
                plugins.load(entry)
                sound.append(f"{name} of {plugins.package(entry)}")
        except errors.Error as error:
            report.fail(error.detail, "mend or uninstall that package")
    if sound:
        report.ok(f"plugins: {', '.join(sound)}")


def known_variables() -> set[str]:
    """The names of all variables that something reads."""
    from microcosmos.server.settings import Settings

    return _VARIABLES | {f"MICRO_{name.upper()}" for name in Settings.__struct_fields__}


CHECKS = (
    ("python", python),
    ("packages", packages),
    ("command", command),
    ("limits", limits),
    ("clock", clock),
    ("tools", tools),
    ("variables", variables),
    ("plugins", plugins),
)
