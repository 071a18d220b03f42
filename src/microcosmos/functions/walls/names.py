"""The walls by name, which of them are enforced, and which may be missing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import msgspec

from microcosmos.base import errors

VARIABLE = "MICRO_ALLOW_MISSING_WALLS"
"""Names of walls that may be missing, by commas; the setting ``--allow_missing_walls``."""

WALLS: Mapping[str, str] = {
    "privileges": "no program gives new privileges",
    "capabilities": "no capabilities, not even root's",
    "landlock.files": "no files but those that its kind needs",
    "landlock.tcp": "no TCP port, to listen at or connect to, but those that its kind needs",
    "landlock.scopes": "no signals and no abstract sockets of processes outside",
    "seccomp": "no system calls but those that its kind needs",
    "limits": "no cores, no written files, and only so many descriptors",
    "undumpable": "memory that others of its user cannot read",
    "environment": "no variables",
    "descriptors": "no open files but its own",
}
"""Every wall, and what it is for."""

WEAK = frozenset({"limits", "environment", "descriptors"})
"""The walls that a system has which is neither Linux nor new: the level ``weak``."""

GROUPS: Mapping[str, frozenset[str]] = {
    "landlock": frozenset({"landlock.files", "landlock.tcp", "landlock.scopes"}),
    "weak": frozenset(WALLS) - WEAK,
}
"""Names that stand for several walls which may be missing."""


class Wall(msgspec.Struct, frozen=True):
    """A wall, as it stands here.

    Attributes:
        name: of `WALLS`.
        enforced: whether what it is to stop was stopped.
        why: it is not.
    """

    name: str
    enforced: bool
    why: str = ""


class Missing(Exception):
    """A wall that is not there.

    Attributes:
        name: of `WALLS`.
        why: not.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why


class Measured(msgspec.Struct, frozen=True):
    """What is enforced on this machine.

    Attributes:
        walls: every one.
        allowed: those that may be missing.
    """

    walls: list[Wall]
    allowed: list[str] = []

    @property
    def missing(self) -> list[Wall]:
        """The walls that are not enforced."""
        return [wall for wall in self.walls if not wall.enforced]

    @property
    def level(self) -> str:
        """``full``, ``weak`` where only what every system has is there, or ``partial``."""
        enforced = {wall.name for wall in self.walls if wall.enforced}
        if len(enforced) == len(WALLS):
            return "full"
        return "weak" if enforced <= WEAK else "partial"

    @property
    def refusal(self) -> str:
        """Why nothing may be run within these walls, and the way out; empty if it may."""
        lacking = [wall for wall in self.missing if wall.name not in self.allowed]
        return refusal(lacking) if lacking else ""

    @property
    def told(self) -> str:
        """A line for people."""
        if not self.missing:
            return f"{self.level}: {', '.join(wall.name for wall in self.walls)}"
        lacking = _listed(self.missing)
        end = "; functions do not run" if self.refusal else ", which is allowed by name"
        return f"{self.level}: missing are {lacking}{end}"


def _listed(walls: Collection[Wall]) -> str:
    """Their names, with why each is not there: once for all that share it."""
    found: dict[str, list[str]] = {}
    for wall in walls:
        found.setdefault(wall.why, []).append(wall.name)
    return " and ".join(f"{', '.join(names)} ({why})" for why, names in found.items())


def refusal(lacking: Collection[Wall]) -> str:
    """The line that says which walls are missing, why, and what can be done."""
    said = _listed(lacking)
    what = f"the wall {said} is" if len(lacking) == 1 else f"the walls {said} are"
    names = {wall.name for wall in lacking}
    name = next((name for name, group in GROUPS.items() if names == group), "")
    has = "it" if len(lacking) == 1 else "them"
    return (
        f"functions are not run here, as {what} missing; use a system that has {has}, or allow it"
        f" by name: --allow_missing_walls {name or ','.join(sorted(names))} ({VARIABLE})"
    )


def allowed(text: str | None = None) -> frozenset[str]:
    """The walls that may be missing.

    Args:
        text: names by commas; unless given what the variable says.

    Raises:
        errors.BadRequest: there is no such wall.
    """
    said = os.environ.get(VARIABLE, "") if text is None else text
    found: set[str] = set()
    for name in filter(None, (part.strip() for part in said.split(","))):
        if name in GROUPS:
            found |= GROUPS[name]
        elif name in WALLS:
            found.add(name)
        else:
            known = ", ".join((*GROUPS, *WALLS))
            raise errors.BadRequest(
                "server.settings",
                f"--allow_missing_walls ({VARIABLE}): {name!r:.80} is no wall; there are {known}",
            )
    return frozenset(found)
