"""The host's end of the egress's lane: one line, on which frames go through as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

from microcosmos.base import errors
from microcosmos.functions.wire import ASKED, pack_request
from microcosmos.rpc.frames import CANCEL, END, ERROR, MAX_MESSAGE
from microcosmos.rpc.line import Line

PATIENCE = 5.0
"""Seconds that a sub-request waits for an egress that is being started again."""

_AGAIN = 0.02
_ID = "functions.fetch"
_LAST = ASKED - 1

Say = Callable[[int, bytes], None]
"""Takes the kind and payload of a frame of an answer."""


class Under(Protocol):
    """A sub-request that is under way."""

    def send(self, kind: int, payload: bytes) -> None:
        """Pass on a frame of its body, credit for the answer's, or that nobody wants it."""


class Egress(Protocol):
    """What does sub-requests."""

    async def begin(self, kind: int, policy: bytes, fetch: bytes, say: Say) -> Under:
        """Begin one.

        Args:
            kind: REQUEST, or OPEN if its body follows.
            policy: what it may, as of `policy.pack`.
            fetch: a `wire.Fetch`, as it came.
            say: takes what is answered; the last is an END or ERROR.

        Raises:
            errors.Unavailable: there is no egress.
            errors.TooLarge: with the policy it is more than one message.
        """


class EgressClient:
    """See `Egress`; used as ``async with``.

    Args:
        path: the socket.
        patience: seconds to wait for one that is away.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._end: _End | None = None
        self._opening: asyncio.Task[_End] | None = None

    async def __aenter__(self) -> EgressClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._end is not None:
            self._end.line.abort()
            # The line is told in the loop's next turn.
            await asyncio.sleep(0)

    async def begin(self, kind: int, policy: bytes, fetch: bytes, say: Say) -> Under:
        """See `Egress`."""
        payload = pack_request(0, policy, fetch)
        if len(payload) > MAX_MESSAGE:
            detail = f"a sub-request of {len(fetch)} bytes is too long; stream its body"
            raise errors.TooLarge(_ID, detail)
        end = self._end
        if end is None or not end.living:
            end = await self._opened()
        return end.begin(kind, payload, say)

    async def _opened(self) -> _End:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="egress")
            self._opening.add_done_callback(self._over)
        return await asyncio.shield(self._opening)

    def _over(self, task: asyncio.Task[_End]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # Told to all who wait, of whom there may be none any more.

    async def _open(self) -> _End:
        loop = asyncio.get_running_loop()
        until, path = loop.time() + self._patience, str(self._path)
        while True:
            end = _End()
            try:
                await loop.create_unix_connection(lambda end=end: end.line, path)  # type: ignore[misc]
            except OSError:
                if loop.time() > until:
                    detail = "the process that fetches is away; try again"
                    raise errors.Unavailable(_ID, detail) from None
                await asyncio.sleep(_AGAIN)
                continue
            self._end = end
            return end


class _End:
    """A line to the egress, and what is under way on it."""

    def __init__(self) -> None:
        self.line = Line(self._received, self._lost)
        self._number = 0
        self._under: dict[int, Say] = {}
        self._ended = False

    @property
    def living(self) -> bool:
        """Whether anything that is sent may still arrive."""
        return self.line.open and not self._ended

    def begin(self, kind: int, payload: bytes, say: Say) -> _Under:
        number = self._number = self._number % _LAST + 1
        while number in self._under:
            number = self._number = self._number % _LAST + 1
        self._under[number] = say
        self.line.send(kind, number, payload)
        return _Under(self, number)

    def send(self, number: int, kind: int, payload: bytes) -> None:
        if number not in self._under:
            return
        if kind == CANCEL:
            del self._under[number]
            self.line.forget(number)
            self.line.drop(number)
        self.line.send(kind, number, payload)

    def _received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        say = self._under.get(stream)
        if say is None:
            return
        if kind in (END, ERROR):
            del self._under[stream]
        say(kind, payload)

    def _lost(self, line: Line) -> None:
        self._ended = True
        under, self._under = self._under, {}
        error = errors.Unavailable(_ID, "the process that fetches has ended; try again").to_wire()
        for say in under.values():
            say(ERROR, error)


class _Under:
    """See `Under`."""

    def __init__(self, end: _End, number: int) -> None:
        self._end = end
        self._number = number

    def send(self, kind: int, payload: bytes) -> None:
        """See `Under`."""
        self._end.send(self._number, kind, payload)
