"""Whose fault it was that a worker hung or died, and what is said of it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from microcosmos.functions.amounts import show
from microcosmos.functions.ended import way_out
from microcosmos.functions.interface import Unit
from microcosmos.functions.workers import Where

CPU = "limit.cpu"
MEMORY = "limit.memory"
LOST = "lost"

_FULL = frozenset((-signal.SIGTRAP, -signal.SIGABRT, -signal.SIGILL, 133, 134))
"""How Deno ends when its one heap is full."""

_FOREIGN = frozenset((-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT))
"""How a worker ends that somebody else has ended."""


class Fault(NamedTuple):
    """Something that a version did to its worker.

    Attributes:
        where: the version.
        unit: the same, as far as the host has it.
        worker: its id.
        kind: ``limit.cpu``, ``limit.memory`` or ``lost``.
        reason: what became of it, for people, behind "the function was".
        suspected: whether it may have been something else.
        requests: of it that were under way, as far as was told.
        cpu: seconds of the processor that it burned, which nobody else counts.
    """

    where: Where
    unit: Unit | None
    worker: str
    kind: str
    reason: str
    suspected: bool
    requests: int = 0
    cpu: float = 0.0


Blame = Callable[[Fault], Awaitable[None]]
"""Gives a version the strike that it has earned; returns when that is kept, or cannot be."""


class Hang(NamedTuple):
    """A worker that was ended because it held up everything.

    Attributes:
        limit: seconds of the processor that the version may use at a stretch; 0 if the worker
            used none, and stood still.
        since: seconds of the processor that it had used in its life when it was last heard.
    """

    limit: float
    since: float


def of_hang(hang: Hang, cpu: float) -> tuple[str, str]:
    """The kind and the text of what held a worker up, ``cpu`` being its use of a whole life."""
    if not hang.limit:
        return LOST, "ended with its worker, which stood still and answered nothing"
    used, allowed = (show(time, "seconds") for time in (cpu - hang.since, hang.limit))
    return CPU, f"ended here after {used} of processor; {allowed} are allowed"


def of_death(kind: str, code: int) -> tuple[str, str]:
    """The kind and the text of a death.

    Args:
        kind: of the worker.
        code: its status, negative for a signal.
    """
    if kind == "deno" and code in _FULL:
        return MEMORY, f"ended here after filling the heap of its worker; {way_out('heap')}"
    return LOST, f"ended with its worker, which died {_how(code)}"


def _how(code: int) -> str:
    if code >= 0:
        return f"with status {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def suspected(kind: str, code: int, many: int) -> str:
    """The text of what may have been a version's doing.

    Args:
        kind: of what happened.
        code: how the worker ended.
        many: how many versions it may have been.
    """
    what = "held up its worker" if kind == CPU else f"been its worker's end, {_how(code)}"
    others = f", as one of {many} at work in it" if many > 1 else ""
    return f"suspected to have {what}{others}"


def foreign(code: int) -> bool:
    """Whether a death may have come from outside: somebody, or the system, has killed it."""
    return code in _FOREIGN
