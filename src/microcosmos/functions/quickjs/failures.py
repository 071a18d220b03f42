"""What has gone wrong, as errors for those who asked and as text for the log."""

from __future__ import annotations

import re

from microcosmos.base import errors
from microcosmos.functions.amounts import show
from microcosmos.functions.ended import LIMITS, ended
from microcosmos.functions.interface import Limits, Unit

from .limits import LOAD_CPU
from .prelude import BELOW, LINES

CPU, MEMORY, STACK, BROKEN = "cpu", "memory", "stack", "broken"

_FRAME = re.compile(r"^ {4}at (?:.*? \()?<input>:(\d+):(\d+)\)?$")
_WHERE = re.compile(r"<input>:(\d+)")

_OWN = re.compile(r":\d+:\d+")
_THROWS_NULL = re.compile(r"\b(?:throw|reject)\s*\(?\s*null\b")


class Ended(Exception):
    """An engine that has no failures of its own has thrown this, or was ended; it says which."""


def broken(text: str) -> str:
    """Which limit the engine ended a function by; empty if by none."""
    if text.startswith("InternalError: interrupted"):
        return CPU
    # Where there was not even room for an error, there is none.
    if text.startswith(("InternalError: out of memory", "null")):
        return MEMORY
    if text.startswith("RangeError: Maximum call stack size exceeded"):
        return STACK
    return ""


def throws_null(code: str) -> bool:
    """Whether a code may throw null itself, as the engine does when it has no memory left."""
    return _THROWS_NULL.search(code) is not None


def limit(which: str, limits: Limits, used: float = 0.0) -> errors.Error:
    """The error of a function that has used too much; see `ended.ended`."""
    return exception() if which not in LIMITS else ended(which, limits, used)


def exception() -> errors.Error:
    """The error of a function that has thrown something."""
    return errors.InternalServerError(
        "functions.exception", "the function has failed; its log says why"
    )


def load() -> errors.Error:
    """The error of a function that fails before it has answered anything."""
    return errors.InternalServerError(
        "functions.load", "the function fails when it is loaded; its log says why"
    )


def loading(error: Exception, unit: Unit, shift: int) -> str:
    """What is to be told of a function that could not be loaded.

    Args:
        error: that ended it.
        unit: of the function.
        shift: lines that come before its own.
    """
    text = str(error).removesuffix("\nundefined")
    which = broken(text)
    if which == CPU:
        why = f"it takes more than {LOAD_CPU:g} s of the processor"
    elif which and not (which == MEMORY and throws_null(unit.code)):
        why = limit(which, unit.limits).detail
    else:
        said, _, frames = trace(text, unit.main, shift).partition("\n    at ")
        where = _OWN.search(frames)
        why = f"{said} ({unit.main}{where[0]})" if where else said
    return f"{unit.main} fails when it is loaded: {why}"


def never_began(main: str) -> str:
    """What is to be told of a function that a limit has ended as soon as it was loaded."""
    return f"{main} fails when it is loaded: its log says why"


def unfit(what: str) -> errors.Error:
    """The error of an answer that is none."""
    return errors.InternalServerError(
        "functions.answer",
        f"the function has answered {what}; it must be a text, bytes, a JSON value or a Response",
    )


def unsettled() -> errors.Error:
    """The error of a promise that nothing can settle any more."""
    return errors.InternalServerError(
        "functions.unsettled", "the function waits for something that cannot come any more"
    )


def lost() -> errors.Error:
    """The error of requests that end because another one of the function was ended."""
    return errors.ConnectionLost(
        "functions.lost", "the function was ended because of another request"
    )


def unloaded(slot: int) -> errors.Error:
    """The error of a slot that nothing is in."""
    return errors.Unavailable("functions.unloaded", f"nothing is loaded in slot {slot}")


def missing(main: str, handler: str) -> errors.Error:
    """The error of a function that has nothing to handle this by."""
    return errors.Unimplemented("functions.handler", f"{main} has no {handler}(…) for this")


def body(limits: Limits) -> errors.Error:
    """The error of a request that is too large."""
    return errors.TooLarge("functions.body", f"a body of more than {show(limits.request, 'bytes')}")


def trace(text: str, main: str, shift: int = 0) -> str:
    """A text with the frames of a trace, in the user's own names; frames of ours are left out.

    Args:
        text: as the engine gives it.
        main: the name of the user's file.
        shift: lines that come before it.
    """
    lines = [line for line in text.split("\n") if not _ours(line)]
    return _WHERE.sub(
        lambda found: f"{main}:{max(int(found[1]) - shift, 1)}", "\n".join(lines)
    ).rstrip()


def _ours(line: str) -> bool:
    found = _FRAME.match(line)
    return found is not None and BELOW < int(found[1]) <= BELOW + LINES
