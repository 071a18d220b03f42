"""Packages of Node: installed by `npm` beside a source, and linked into it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

from . import environment
from .failure import Failure
from .package import Packages

PROGRAMS = Path("node_modules", ".bin")
"""Where below a source the programs of its packages are."""

_MODULES = "node_modules"
_QUIET = ["--omit=dev", "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier"]
_ERROR = re.compile(r"npm (?:error|ERR!) ?(.*)")
_CODE = re.compile(r"^(E?\d{3}|notarget|network)\s+")
# What npm says first and last is about itself, not about the cause.
_ASIDE = re.compile(r"code |errno |syscall |path |command |A complete log|(\w+)?$")
_TELLING = ("is not in this registry", "could not be found", "No matching version")
_SCRIPT_FAILED = "command failed"


def folder(place: Path) -> Path:
    """Where in an environment npm works."""
    return place / "npm"


def missing(program: str) -> str:
    """What to tell when a program of Node is not there."""
    return f"there is no {program} on the server's PATH; install Node.js, version 18 or later"


def key(packages: Packages) -> list[str]:
    """What the key of an environment with these packages is made from.

    Raises:
        Failure: Node is not installed.
    """
    program = _found("node")
    return [_version(program, Path(program).stat().st_mtime_ns), *packages.texts]


def command(packages: Packages) -> list[str]:
    """The command that installs.

    Raises:
        Failure: npm is not installed.
    """
    if packages.locked:
        return [_found("npm"), "ci", *_QUIET]
    return [_found("npm"), "install", "--no-package-lock", *_QUIET]


def prepare(source: Path, place: Path, packages: Packages) -> None:
    """Bring npm what it needs of the source."""
    target = folder(place)
    if packages.files:
        target.mkdir(parents=True)
        for name in packages.files:
            shutil.copyfile(source / name, target / name)
    else:
        leave_out = shutil.ignore_patterns(_MODULES)
        shutil.copytree(source, target, symlinks=True, ignore=leave_out)


def link(source: Path, place: Path) -> None:
    """Let the source find its packages: Node looks for them beside a program only."""
    here, there = source / _MODULES, folder(place) / _MODULES
    if here.is_symlink() and here.readlink() == there:
        return
    here.unlink(missing_ok=True)
    here.symlink_to(there)


def cause(output: list[str]) -> str:
    """The line of npm's output that says what is wrong; empty if it is not npm's."""
    said = [match[1].strip() for line in output if (match := _ERROR.match(line.strip()))]
    if _SCRIPT_FAILED in said:
        others = [line.strip() for line in output if line.strip() and not line.startswith("npm ")]
        return others[-1] if others else _SCRIPT_FAILED
    telling = [line for line in said if any(words in line for words in _TELLING)]
    lines = telling or [line for line in said if not _ASIDE.match(line)]
    return _CODE.sub("", lines[0]) if lines else ""


def _found(program: str) -> str:
    found = shutil.which(program, path=environment.base()["PATH"])
    if not found:
        raise Failure(missing(program))
    return found


@functools.lru_cache(maxsize=4)
def _version(program: str, changed: int) -> str:
    """What a program of Node calls itself; asked again when it has been changed."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.strip()
