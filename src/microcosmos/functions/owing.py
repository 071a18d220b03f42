"""What a worker owes to whoever sent it requests, and what becomes of these without it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from microcosmos.base import errors

from .bodies import Inflow, Outflow
from .workers import Suspicion, Verdict

LOST = "functions.lost"
"""The id of what was not answered because of its worker."""

UNLOADED = "functions.unloaded"
"""The id by which a worker says that it does not know a slot."""

ENDED = "its worker ended before it had answered"

_VERDICT = 5.0
"""Seconds for which the host's word about a lost worker is waited for."""

Suspect = Callable[[Suspicion], Awaitable[Verdict]]
"""Tells the host of a worker that does not answer, or is no more."""

Waiting = dict[int, tuple[asyncio.Future[bytes], float, str]]
"""Requests by their numbers: where the payload of the answer will be, when it is given up, and the
key of what answers."""


class Lost(errors.ConnectionLost):
    """The line to a worker broke before it had answered."""


class Unloaded(errors.Unavailable):
    """A worker does not know a slot, and has done nothing."""


class Streamed(bytes):
    """The payload of a REPLY whose body follows.

    Attributes:
        body: what follows; who does not read it to its end cancels it.
    """

    body: Inflow


def _nothing() -> None:
    pass


class Parts:
    """What goes and comes in parts on a stream of a line.

    Attributes:
        outflow: the body of the request, if that goes in parts.
        inflow: the body of the answer, once that has begun.
        accepted: called when the worker is seen to have taken the request up.
    """

    __slots__ = ("accepted", "inflow", "outflow")

    def __init__(self, outflow: Outflow | None = None) -> None:
        self.outflow = outflow
        self.inflow: Inflow | None = None
        self.accepted: Callable[[], None] = _nothing

    def end(self, failure: errors.Error | None = None) -> None:
        """Neither goes on."""
        if self.outflow is not None:
            self.outflow.close()
        if self.inflow is not None:
            self.inflow.end(failure)


def owed(waiting: Waiting) -> dict[str, int]:
    """By the keys of versions, how many answers are owed."""
    return dict(Counter(key for _, _, key in waiting.values() if key))


async def asked(suspect: Suspect, suspicion: Suspicion) -> Verdict:
    """The host's word about a worker; one that is away says nothing."""
    try:
        async with asyncio.timeout(_VERDICT):
            return await suspect(suspicion)
    except (errors.Error, TimeoutError):
        return Verdict(False)


def end(waiting: Waiting, parts: Mapping[int, Parts], verdict: Verdict) -> None:
    """End requests whose worker is no more: those of the guilty version by what it did."""
    for future, _, key in waiting.values():
        if verdict.guilty and key == verdict.guilty:
            fail(future, errors.Unavailable(verdict.id or LOST, verdict.detail))
        else:
            fail(future, lost(verdict.reason))
    for each in parts.values():
        each.end(lost(verdict.reason))


def fail(future: asyncio.Future[bytes], error: errors.Error) -> None:
    """Answer a request by an error, unless nobody waits for it."""
    if not future.done():
        future.set_exception(error)


def lost(reason: str = "") -> Lost:
    """The error of what was not answered because of its worker."""
    return Lost(LOST, f"{reason or ENDED}; try again")


def late() -> errors.Error:
    """The error of what was not answered in time."""
    return errors.Unavailable("functions.limit.wall", "the function took too long to answer")
