"""A program, closed in: ``python -m microcosmos.functions.walls.run bundler … -- PROGRAM …``.

``--keep FOLDER`` is a folder to keep files in, ``--execute FOLDER`` one whose programs may be run,
too, ``--read PATH`` what is only read, ``--port NUMBER`` a TCP port to connect to; each may be said
again. ``deno --keep FOLDER`` is a worker's program, which listens in that folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from microcosmos.base import errors

from . import profiles
from .entering import enter
from .profiles import Profile

_USAGE = "usage: python -m microcosmos.functions.walls.run bundler|deno [--keep FOLDER] … -- ARGV"
_OPTIONS = ("--keep", "--execute", "--read", "--port")


def command(
    argv: Sequence[str],
    *,
    keep: Iterable[str | Path] = (),
    execute: Iterable[str | Path] = (),
    read: Iterable[str | Path] = (),
    ports: Iterable[int] = (),
    profile: str = "bundler",
) -> list[str]:
    """What runs a program closed in.

    Args:
        argv: the program, by its path, and its arguments.
        keep: folders in which it keeps files.
        execute: those of whose programs it may run some, too.
        read: what it may only read.
        ports: of TCP, that it may connect to.
        profile: ``bundler`` or ``deno``.
    """
    said = {"--keep": keep, "--execute": execute, "--read": read, "--port": ports}
    words = [word for name, values in said.items() for one in values for word in (name, str(one))]
    # Files of a function are where it is started: they are nothing to import.
    return [sys.executable, "-P", "-m", __name__, profile, *words, "--", *argv]


def main(arguments: Sequence[str]) -> int:
    """Be that program; returns only if it cannot be run."""
    try:
        profile, argv = _parsed(arguments)
    except (ValueError, IndexError):
        sys.stderr.write(f"{_USAGE}\n")
        return 64
    except OSError as exc:
        sys.stderr.write(f"{exc.filename} cannot be run: {exc.strerror}\n")
        return 127
    environ = dict(os.environ)
    try:
        # As for sockets that are made elsewhere: open to this user only.
        os.umask(0o177 if profile.name == "deno" else 0o077)
        enter(profile)
        os.execve(argv[0], argv, environ)
    except errors.Error as error:
        sys.stderr.write(f"{error.detail}\n")
        return 69
    except OSError as exc:
        sys.stderr.write(f"{argv[0]} cannot be run: {exc.strerror}\n")
        return 127


def _parsed(arguments: Sequence[str]) -> tuple[Profile, list[str]]:
    end = arguments.index("--")
    name, words, argv = arguments[0], list(arguments[1:end]), list(arguments[end + 1 :])
    said: dict[str, list[str]] = {option: [] for option in _OPTIONS}
    while words:
        option, value, *words = words
        if option not in said:
            raise ValueError(option)
        said[option].append(value)
    ports = [int(one) for one in said["--port"]]
    match name:
        case "bundler":
            made = profiles.bundler(
                argv[0], said["--keep"], said["--execute"], said["--read"], ports
            )
        case "deno":
            (folder,) = said["--keep"]
            made = profiles.deno(argv[0], said["--read"], folder)
        case _:
            raise ValueError(name)
    return made, argv


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
