"""How each kind of worker is started: forked from this warm process, or another program."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from microcosmos.base.home import Home

Run = Callable[[socket.socket], object]
"""Works on a listening socket until its work is done."""

Command = Callable[[Path, int], tuple[list[str], dict[str, str]]]
"""Given the path of a socket and the bytes of a heap, the arguments and the environment of a
program that listens there; raises `errors.Error` if it is not installed."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker that goes on from here, in a child of this process.

    Attributes:
        load: imports what it needs, in this process, and gives what it does.
    """

    load: Callable[[], Run]


@dataclass(frozen=True, slots=True)
class Executed:
    """A worker that is a program of its own.

    Attributes:
        command: what it is.
    """

    command: Command


Kind = Forked | Executed


def kinds(home: Home) -> Mapping[str, Kind]:
    """The kinds of a platform.

    Args:
        home: where programs may keep files.
    """
    return {
        "quickjs": Forked(_quickjs),
        "monty": Forked(_monty),
        "deno": Executed(lambda path, heap: _deno(path, heap, home.server / "deno")),
    }


def _quickjs() -> Run:
    from microcosmos.functions.quickjs import run

    return run


def _monty() -> Run:
    from microcosmos.functions.monty.worker import run

    return run


def _deno(path: Path, heap: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    from microcosmos.functions.deno.command import command

    return command(path, heap=heap, folder=folder)
