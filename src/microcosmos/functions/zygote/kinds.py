"""How each kind of worker is started: forked from this warm process, or another program."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from microcosmos.base.home import Home
from microcosmos.functions.walls import Profile, profiles

Run = Callable[[socket.socket], object]
"""Works on a listening socket until its work is done."""

Command = Callable[[Path, int], tuple[list[str], dict[str, str]]]
"""Given the path of a socket and the bytes of a heap, the arguments and the environment of a
program that listens there; raises `errors.Error` if it is not installed."""

Within = Callable[[Path], Profile]
"""Given the folder of a worker's socket, what it may do; raises `errors.Error` or `OSError` if
what it runs is not installed."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker that goes on from here, in a child of this process.

    Attributes:
        load: imports what it needs, in this process, and gives what it does.
        within: the walls that it is closed in by; None are none, for tests.
        before: what is done in the child before they go up, if walls of these names may be
            missing; gives descriptors that are to stay open.
    """

    load: Callable[[], Run]
    within: Within | None
    before: Callable[[frozenset[str]], tuple[int, ...]] = lambda _: ()


@dataclass(frozen=True, slots=True)
class Executed:
    """A worker that is a program of its own.

    Attributes:
        command: what it is.
        within: as of `Forked`.
        started: told of each worker that has been started.
    """

    command: Command
    within: Within | None
    started: Callable[[], None] = lambda: None


Kind = Forked | Executed


def kinds(home: Home) -> Mapping[str, Kind]:
    """The kinds of a platform.

    Args:
        home: where programs may keep files.
    """
    return {
        "quickjs": Forked(_quickjs, lambda _: profiles.quickjs()),
        "wasm": Forked(
            _wasm, lambda _: profiles.wasm(), lambda _: _before_wasm(home.server / "wasm")
        ),
        "monty": Forked(_monty, _within_monty, _before_monty),
        "deno": _of_deno(home.server / "deno"),
    }


def _quickjs() -> Run:
    from microcosmos.functions.quickjs import run

    return run


def _wasm() -> Run:
    from microcosmos.functions.wasm import compiled

    # Raises, if it is not installed.
    compiled.source()
    from microcosmos.functions.wasm.worker import run

    return run


def _before_wasm(folder: Path) -> tuple[int, ...]:
    from microcosmos.functions.wasm.worker import prepare

    return prepare(folder)


def _monty() -> Run:
    from microcosmos.functions.monty.worker import run

    return run


def _of_deno(folder: Path) -> Executed:
    """Deno's workers.

    Args:
        folder: where what Deno compiles of their scripts is kept.
    """
    from microcosmos.functions import deno
    from microcosmos.functions.deno import warming

    def command(path: Path, heap: int) -> tuple[list[str], dict[str, str]]:
        return deno.command(path, heap=heap, folder=warming.place(folder))

    def within(own: Path) -> Profile:
        scripts = (deno.SCRIPTS, warming.place(folder))
        return profiles.deno(deno.binary(), scripts, own)

    return Executed(command, within, warming.Warmer(folder).started)


def _within_monty(_: Path) -> Profile:
    from microcosmos.functions.monty.program import program

    return profiles.monty(program())


def _before_monty(missing: frozenset[str]) -> tuple[int, ...]:
    from microcosmos.functions.monty import looker

    return looker.begin(missing)
