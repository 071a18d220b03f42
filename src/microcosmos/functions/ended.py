"""The errors of functions that have met a limit: the same words on every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from microcosmos.base import errors

from .amounts import show
from .interface import Limits

LIMIT = "functions.limit."
"""What the ids of these errors begin with."""

LOGS_CUT = "the rest of this request's log is dropped: it may write {} ({})"


def ended(which: str, limits: Limits, used: float = 0.0) -> errors.Unavailable:
    """The error of a function that was ended here.

    Args:
        which: ``cpu``, ``wall``, ``memory``, ``stack``, ``output``, ``fetches`` or ``concurrency``.
        limits: that it has.
        used: what it has used, if that is known: seconds, or bytes.
    """
    said, name = LIMITS[which](limits, used), _NAMES.get(which, which)
    return errors.Unavailable(f"{LIMIT}{which}", f"{said}; {way_out(name)}")


def way_out(name: str) -> str:
    """How a function gets more of something."""
    return f"deploy with --limit {name}=…"


def logs_cut(limits: Limits) -> str:
    """The last line of the log of a request that has written too much."""
    return LOGS_CUT.format(show(limits.logs, "bytes"), way_out("logs"))


def _cpu(limits: Limits, used: float) -> str:
    spent = show(max(used, limits.cpu), "seconds")
    return f"ended here after {spent} of processor; {show(limits.cpu, 'seconds')} are allowed"


def _wall(limits: Limits, used: float) -> str:
    spent = show(max(used, limits.wall), "seconds")
    return f"ended here after {spent} of waiting; {show(limits.wall, 'seconds')} are allowed"


def _memory(limits: Limits, used: float) -> str:
    heap = show(limits.heap, "bytes")
    return f"ended here after filling its heap; {heap} are allowed"


def _stack(limits: Limits, used: float) -> str:
    stack = show(limits.stack, "bytes")
    return f"ended here after calls nested too deeply; {stack} of stack are allowed"


def _output(limits: Limits, used: float) -> str:
    answer = f"an answer of {show(used, 'bytes')}" if used else "too long an answer"
    allowed = show(limits.response, "bytes")
    return f"ended here after {answer}; {allowed} are allowed unless it is streamed"


def _fetches(limits: Limits, used: float) -> str:
    many = f"{limits.fetches:,}"
    return f"ended here after {many} sub-requests and uses of bindings; {many} are allowed"


def _concurrency(limits: Limits, used: float) -> str:
    many = f"{limits.concurrency:,}"
    return f"refused here after {many} requests that are under way; {many} are allowed"


_NAMES: Mapping[str, str] = {"memory": "heap", "output": "response"}
"""The limits whose errors have another name."""

LIMITS: Mapping[str, Callable[[Limits, float], str]] = {
    "cpu": _cpu,
    "wall": _wall,
    "memory": _memory,
    "stack": _stack,
    "output": _output,
    "fetches": _fetches,
    "concurrency": _concurrency,
}
"""What is said of each limit that ends a function: what was used, and what is allowed."""
