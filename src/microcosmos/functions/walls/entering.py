"""Entering the walls: a process closes itself in, and cannot get out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from microcosmos.base import errors

from . import landlock, process, profiles, seccomp
from .names import Missing, Wall, allowed, refusal
from .profiles import Profile


def enter(
    profile: Profile | str,
    *,
    sockets: Iterable[str | Path] = (),
    descriptors: Collection[int] = (),
    missing: Collection[str] | None = None,
) -> None:
    """Close this process in; what it starts is within the same walls.

    It must have one thread, and everything that it needs must have been imported.

    Args:
        profile: what it may still do; ``"egress"`` is that of the process that fetches.
        sockets: folders in which the egress may still make a socket.
        descriptors: what stays open beside the standard three.
        missing: walls that need not be there; unless given those of the variable.

    Raises:
        errors.Unavailable: a wall is missing that has to be there, or there are more threads.
    """
    if isinstance(profile, str):
        profile = named(profile, sockets)
    without = allowed() if missing is None else missing
    if (threads := process.threads()) > 1:
        raise errors.Unavailable(
            "functions.walls", f"walls are entered by one thread, and there are {threads}"
        )
    prepare(profile)
    # The last ones take away what the others need.
    steps: dict[str, Callable[[], None]] = {
        "limits": lambda: process.limit(profile.limits),
        "descriptors": lambda: process.close_descriptors(descriptors),
        "environment": process.forget_environment,
        "privileges": process.give_up_privileges,
        "capabilities": process.give_up_capabilities,
        "landlock": lambda: landlock.close_in(profile.reach, without),
        "undumpable": process.close_memory,
        "seccomp": lambda: seccomp.filter_calls(profile.calls),
    }
    for name, step in steps.items():
        if name not in profile.without:
            with _allowing(without):
                step()


@contextlib.contextmanager
def _allowing(without: Collection[str]) -> Iterator[None]:
    try:
        yield
    except Missing as wall:
        if wall.name not in without:
            # Of Landlock's, all that are not there are named at once.
            names = {wall.name: wall.why, **landlock.lacking(landlock.abi())}
            lacking = [Wall(name, False, why) for name, why in names.items() if name not in without]
            raise errors.Unavailable("functions.walls", refusal(lacking)) from None


def prepare(profile: Profile) -> None:
    """Do beforehand, in the process that forks, what is the same for all of a kind."""
    with contextlib.suppress(Missing):
        seccomp.program(profile.calls)


def leave_all(descriptors: Collection[int]) -> None:
    """Keep no variables and no open files but these; the other walls are not raised."""
    process.close_descriptors(descriptors)
    process.forget_environment()


def named(name: str, sockets: Iterable[str | Path] = ()) -> Profile:
    """The profile of a kind that needs no further word.

    Raises:
        errors.BadRequest: there is none.
    """
    match name:
        case "quickjs":
            return profiles.quickjs()
        case "wasm":
            return profiles.wasm()
        case "egress":
            return profiles.egress(sockets)
        case _:
            raise errors.BadRequest("functions.walls", f"{name!r:.80} is no kind of process")
