"""Requests to functions, wherever these run: what gateways and the host call them with.

The place of a version is asked for once, and kept by its key. From then on a request is a frame
on the line to its worker. A worker that is lost, retires or has dropped the version is found out
by the request itself, and the place is asked for anew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol

import msgspec

from microcosmos.base import errors
from microcosmos.base.tasks import apart

from .bodies import Outflow
from .lines import LOST, Lines, Lost, Streamed, Unloaded, WorkerLine, late
from .workers import SERVICE, Place, Suspicion, Verdict, Where

__all__ = ["Caller", "Exchange", "Placing", "Streamed"]

REFRESH = 5.0
"""Seconds after which a place is asked for again beside the requests: an owner that is busy may
have more workers by then."""

FINDING = 30.0
"""Seconds for which a place is looked for, while the host or its workers are being restarted."""

_STARTING = frozenset((SERVICE, "auth"))
"""Ids of the errors of a host that is away, or does not know yet who may ask it."""

_ATTEMPTS = 4
"""How often a request is sent to workers of which none has done anything with it."""

_PAUSE = 0.01
"""Seconds between two looks for a place where there was none."""


class Placing(Protocol):
    """What knows where versions run, see `workers.Workers`."""

    async def place(self, where: Where) -> list[Place]:
        """See `Workers.place`."""

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        """See `Workers.suspect`."""


class Posted(NamedTuple):
    """A request under way; ``line.abandon(number)`` gives it up.

    Attributes:
        line: by which it went.
        number: of it there.
        future: gets the payload of the answer.
    """

    line: WorkerLine
    number: int
    future: asyncio.Future[bytes]


class _Spot:
    """A version in a worker."""

    __slots__ = ("line", "slot")

    def __init__(self, line: WorkerLine, slot: int) -> None:
        self.line = line
        self.slot = slot


class _Spots:
    """Where a version runs, as far as is known here.

    Attributes:
        now: whose turn it is.
        several: whether the turn goes round.
        until: when the places are to be asked for again.
    """

    __slots__ = ("_all", "_turns", "now", "several", "until")

    def __init__(self, spots: list[_Spot], until: float) -> None:
        self.several = len(spots) > 1
        self.until = until
        self._all = spots
        self._turns: Iterator[_Spot] = itertools.cycle(spots)
        self.now = next(self._turns)

    def turn(self) -> None:
        """Let the next one have its turn."""
        self.now = next(self._turns)

    def at(self, line: WorkerLine) -> _Spot | None:
        """The one that a line leads to."""
        return next((spot for spot in self._all if spot.line is line), None)


class Caller:
    """Sends requests to functions.

    Args:
        placing: knows where versions run.
        lines: lead to workers; its own unless said.
    """

    def __init__(self, placing: Placing, lines: Lines | None = None) -> None:
        self._placing = placing
        self._lines = lines or Lines()
        self._owned = lines is None
        if self._lines.suspect is None:
            self._lines.suspect = placing.suspect
        self._known: dict[str, _Spots] = {}
        self._finding: dict[str, asyncio.Task[_Spots]] = {}
        # Where versions were known to be whose workers, which live, do not know them.
        self._missing: dict[str, Place] = {}
        self._clock = asyncio.get_running_loop().time

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        finding = list(self._finding.values())
        for task in finding:
            task.cancel()
        await asyncio.gather(*finding, return_exceptions=True)
        if self._owned:
            await self._lines.__aexit__(kind, exc, trace)

    async def run(
        self, where: Where, head: bytes, body: bytes = b"", *, timeout: float, safe: bool = False
    ) -> bytes:
        """Send a request whose body is whole.

        Args:
            where: the version.
            head: of the request, see `wire`.
            body: of the request.
            timeout: seconds until the answer has begun.
            safe: whether it may be run again when it is not known what became of it.

        Returns:
            The payload of the REPLY; a `Streamed` if the body of the answer follows.

        Raises:
            errors.Error: what the worker or the host said; ``functions.lost``, 503, if its worker
                ended before the answer; ``functions.limit.wall``, 503, if that took too long;
                ``functions.limit.cpu``, 503, if the worker was ended because of it.
        """
        lines = self._lines
        if lines.idle:
            lines.wake()
        due = lines.now + timeout
        spots = self._known.get(where.key)
        if spots is None:
            return await self._persist(where, head, body, due, safe)
        if spots.several:
            spots.turn()
        if spots.until < lines.now:
            self._refresh(where, spots)
        spot = spots.now
        line = spot.line
        if not line.usable:
            self._forget(where.key, line)
            return await self._persist(where, head, body, due, safe)
        number, future = line.request(spot.slot, head, body, due, where.key)
        try:
            return await future
        except asyncio.CancelledError:
            line.abandon(number)
            raise
        except (Lost, Unloaded) as error:
            self._forget(where.key, line)
            failure = error
        return await self._persist(where, head, body, due, safe, failure)

    def post(
        self, where: Where, head: bytes, body: bytes = b"", *, timeout: float
    ) -> Posted | None:
        """Send a request whose body is whole to a worker that is known already.

        Args:
            where: the version.
            head: of the request.
            body: of the request.
            timeout: seconds until the answer has begun.

        Returns:
            What is under way; None if nothing is, since no worker is known: `run` finds one. The
            answer may be `Lost` or `Unloaded`: then the place is to be given up by `missed`, and
            `run` runs the request, if that can do no harm.
        """
        lines = self._lines
        if lines.idle:
            lines.wake()
        spots = self._known.get(where.key)
        if spots is None:
            return None
        if spots.several:
            spots.turn()
        if spots.until < lines.now:
            self._refresh(where, spots)
        spot = spots.now
        line = spot.line
        if not line.usable:
            self._forget(where.key, line)
            return None
        number, future = line.request(spot.slot, head, body, lines.now + timeout, where.key)
        return Posted(line, number, future)

    def missed(self, where: Where, line: WorkerLine) -> None:
        """A version is not where it was posted to."""
        self._forget(where.key, line)

    async def open(self, where: Where, head: bytes, *, timeout: float) -> Exchange:
        """Begin a request whose body comes in parts.

        Raises:
            errors.Error: there is no place for it.
        """
        due = self._clock() + timeout
        key = where.key
        exchange = Exchange(
            lambda: self._find(where, due), lambda line: self._forget(key, line), head, due, key
        )
        await exchange.begin()
        return exchange

    async def ask(
        self, where: Where, verb: str, body: Callable[[int], bytes], *, timeout: float
    ) -> bytes:
        """Use a verb of the worker that runs a version; gives the JSON of its answer.

        Args:
            where: the version.
            verb: of `wire`.
            body: makes the verb's JSON, given the slot.
            timeout: seconds to wait.

        Raises:
            errors.Error: as of `run`; nothing is tried twice that may have happened.
        """
        due = self._clock() + timeout
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            spot = await self._find(where, due)
            try:
                return await spot.line.ask(verb, body(spot.slot), due - self._clock(), where.key)
            except Unloaded as error:
                self._forget(where.key, spot.line)
                failure = error
            except Lost:
                self._forget(where.key, spot.line)
                raise
        raise _given_up(failure)

    def forget(self, key: str) -> None:
        """A version does not run any more."""
        self._known.pop(key, None)

    async def _persist(
        self,
        where: Where,
        head: bytes,
        body: bytes,
        due: float,
        safe: bool,
        failure: Exception | None = None,
    ) -> bytes:
        """Find a place and send a request there, again if that can do no harm."""
        again = safe
        for _ in range(_ATTEMPTS):
            if isinstance(failure, Lost):
                if not again:
                    raise failure.with_traceback(None)
                again = False
            spot = await self._find(where, due)
            number, future = spot.line.request(spot.slot, head, body, due, where.key)
            try:
                return await future
            except asyncio.CancelledError:
                spot.line.abandon(number)
                raise
            except (Lost, Unloaded) as error:
                self._forget(where.key, spot.line)
                failure = error
        raise _given_up(failure)

    def _forget(self, key: str, line: WorkerLine) -> None:
        """A version is not where it was known to be."""
        spots = self._known.get(key)
        spot = None if spots is None else spots.at(line)
        if spot is not None:
            del self._known[key]
            if line.usable:
                self._missing[key] = Place(line.socket, spot.slot, line.pid)

    async def _find(self, where: Where, due: float) -> _Spot:
        """Where a version runs, asked for once for all who want to know."""
        spots = self._known.get(where.key)
        if spots is not None:
            if spots.several:
                spots.turn()
            if spots.now.line.usable:
                return spots.now
            del self._known[where.key]
        finding = self._finding.get(where.key)
        if finding is None:
            finding = self._finding[where.key] = self._ask(where)
        await asyncio.wait((finding,), timeout=due - self._clock())
        if not finding.done():
            raise late()
        return finding.result().now

    def _ask(self, where: Where) -> asyncio.Task[_Spots]:
        finding = apart(self._found(where), "find")
        finding.add_done_callback(lambda task: self._asked(where.key, task))
        return finding

    def _asked(self, key: str, finding: asyncio.Task[_Spots]) -> None:
        del self._finding[key]
        if not finding.cancelled() and finding.exception() is None:
            self._known[key] = finding.result()

    async def _found(self, where: Where) -> _Spots:
        until = self._clock() + FINDING
        missing = self._missing.pop(where.key, None)
        asked = where if missing is None else msgspec.structs.replace(where, missing=(missing,))
        while True:
            try:
                places = await self._placing.place(asked)
            except errors.Unavailable as error:
                if error.id not in _STARTING:
                    raise
                # The host is being started again. Whoever waits has a deadline.
                places = []
            if spots := await self._spots(where, places):
                return _Spots(spots, self._clock() + REFRESH)
            if self._clock() > until:
                raise Lost(LOST, "there is no worker for it; try again later")
            await asyncio.sleep(_PAUSE)

    async def _spots(self, where: Where, places: list[Place]) -> list[_Spot]:
        """Lines to those places that can be reached."""
        spots = []
        for place in places:
            try:
                line = await self._lines.line(place.socket, place.pid)
            except Lost:
                # It has just ended; so the host is about to hear of it.
                continue
            if line.usable:
                spots.append(_Spot(line, place.slot))
        return spots

    def _refresh(self, where: Where, spots: _Spots) -> None:
        """Ask for the place anew, beside the requests."""
        spots.until = self._clock() + REFRESH
        if where.key not in self._finding:
            self._finding[where.key] = self._ask(where)


class Exchange:
    """A request whose body is sent in parts, and its answer.

    A worker that has dropped the version says so before it has taken anything: until it is seen
    to have taken the request up, what was sent is kept, to be sent once more elsewhere.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[_Spot]],
        forget: Callable[[WorkerLine], None],
        head: bytes,
        due: float,
        key: str,
    ) -> None:
        self._find = find
        self._forget = forget
        self._head = head
        self._due = due
        self._key = key
        self._kept: list[bytes] | None = []
        self._ended = False
        self._begun = asyncio.Event()
        self._line: WorkerLine
        self._number = 0
        self._future: asyncio.Future[bytes]
        self._outflow: Outflow

    async def begin(self) -> None:
        """Find a place for it, and send there what has been sent already."""
        spot = await self._find()
        self._line = spot.line
        opened = spot.line.begin(spot.slot, self._head, self._due, self._key)
        self._number, self._future, self._outflow, parts = opened
        parts.accepted = self._accepted
        for part in self._kept or ():
            self._outflow.push(part)
        if self._ended:
            self._outflow.end()
        self._begun.set()

    async def send(self, part: bytes) -> None:
        """Send a part of the body; waits while the worker is too far behind.

        What nobody wants any more is dropped: `answer` tells why.
        """
        await self._begun.wait()
        if self._kept is not None:
            self._kept.append(part)
        await self._outflow.send(part)

    async def end(self) -> None:
        """That was all of the body."""
        await self._begun.wait()
        self._ended = True
        self._outflow.end()

    async def answer(self) -> bytes:
        """Wait for the answer; as `Caller.run`."""
        while True:
            try:
                return await self._future
            except asyncio.CancelledError:
                self.cancel()
                raise
            except Lost:
                self._forget(self._line)
                raise
            except Unloaded:
                self._forget(self._line)
                if self._kept is None:
                    raise
            self._begun.clear()
            await self.begin()

    def cancel(self) -> None:
        """Nobody wants the answer, or the rest of it."""
        self._line.abandon(self._number)

    def _accepted(self) -> None:
        self._kept = None


def _given_up(failure: Exception | None) -> errors.Error:
    """The error of a version that is dropped as often as it is loaded, or whose workers die."""
    if isinstance(failure, Lost):
        return failure
    return errors.Unavailable(LOST, "its worker dropped it again and again; try again later")
