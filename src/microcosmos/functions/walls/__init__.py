"""Walls: what closes a process in from outside, whatever the code in it does.

A worker enters them before it takes traffic, and cannot leave them: they hold for whatever native
code takes the process over. What this kernel really enforces is measured, by trying.

names      the walls, and which of them may be missing
profiles   what a process of each kind may do within them
calls      system calls, by what they are for
seccomp    their filter
landlock   files, TCP ports, signals
process    what a process gives up of its own: privileges, environment, descriptors, limits
entering   all of that, in its order
measuring  what is enforced here
report     the same, as the zygote leaves it for others
run        ``python -m microcosmos.functions.walls.run``: a program, closed in
"""

from __future__ import annotations

from . import profiles
from .entering import enter, leave_all, prepare
from .measuring import measure
from .names import VARIABLE, Measured, Missing, Wall, allowed
from .profiles import Profile

__all__ = [
    "VARIABLE",
    "Measured",
    "Missing",
    "Profile",
    "Wall",
    "allowed",
    "enter",
    "leave_all",
    "measure",
    "prepare",
    "profiles",
]
