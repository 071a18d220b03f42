"""Relays: sub-requests of workers that the egress does, whose frames go through as they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from microcosmos.base import codec, errors
from microcosmos.functions.bodies import FLOOD
from microcosmos.functions.egress import policy
from microcosmos.functions.egress.client import Egress, Under
from microcosmos.functions.interface import Unit
from microcosmos.rpc.frames import CANCEL, END, ERROR, ITEM

log = logging.getLogger("microcosmos.functions")

_SHORT = 64 * 1024
_ID = "functions.fetch"


class Tell(Protocol):
    """Writes into the log of a function."""

    def __call__(self, unit: Unit, text: str, trace: str) -> None: ...


class _About(msgspec.Struct, frozen=True):
    """What of a `wire.Fetch` is told when it has failed."""

    url: str = ""
    method: str = "GET"
    trace: str = ""


class Relay:
    """One sub-request.

    Args:
        egress: does it.
        say: sends to the worker.
        over: called when it has ended.
        tell: writes into the log of its function.
    """

    def __init__(
        self,
        egress: Egress,
        say: Callable[[int, bytes], None],
        over: Callable[[], object],
        tell: Tell,
    ) -> None:
        self._egress = egress
        self._say = say
        self._over = over
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._under: Under | None = None
        self._early: list[tuple[int, bytes]] = []
        self._size = 0
        self._ended = False
        self._unit: Unit | None = None
        self._fetch: bytes | _About = b""

    def begin(self, kind: int, unit: Awaitable[Unit], fetch: bytes) -> None:
        """Have it done.

        Args:
            kind: REQUEST, or OPEN if its body follows.
            unit: of the function.
            fetch: what the worker has said.
        """
        # Of a long one only what may have to be told is kept while it is under way.
        self._fetch = fetch if len(fetch) <= _SHORT else _about(fetch)
        self._task = asyncio.create_task(self._begin(kind, unit, fetch), name="fetch")

    def received(self, kind: int, payload: bytes) -> None:
        """Take in a frame of the worker."""
        if kind == CANCEL:
            self._end()
            if self._task is not None:
                self._task.cancel()
        if self._under is not None:
            self._under.send(kind, payload)
        if self._under is not None or self._ended:
            return
        self._early.append((kind, payload))
        self._size += len(payload) if kind == ITEM else 0
        if self._size > FLOOD and self._task is not None:
            self._task.cancel()
            self._fail(errors.BadRequest(_ID, "more was sent than was asked for"))

    async def _begin(self, kind: int, finding: Awaitable[Unit], fetch: bytes) -> None:
        try:
            unit = self._unit = await finding
            under = await self._egress.begin(kind, policy.pack(unit), fetch, self._answered)
        except errors.Error as error:
            self._fail(error)
            return
        except Exception as exc:
            # What it was is nothing for functions: they are somebody else's.
            log.exception("a sub-request could not be begun")
            self._fail(errors.InternalServerError(_ID, type(exc).__name__))
            return
        self._under = under
        early, self._early = self._early, []
        for frame in early:
            under.send(*frame)

    def _answered(self, kind: int, payload: bytes) -> None:
        """Pass on a frame of the answer."""
        if kind == ERROR:
            self._fail(errors.from_wire(payload))
        elif not self._ended:
            self._say(kind, payload)
            if kind == END:
                self._end()

    def _fail(self, error: errors.Error) -> None:
        if self._ended:
            return
        self._say(ERROR, error.to_wire())
        self._end()
        if self._unit is not None:
            about = self._fetch if isinstance(self._fetch, _About) else _about(self._fetch)
            text = f"fetch {about.method[:16]} {about.url[:200]}: {error.detail}"
            self._tell(self._unit, text, about.trace)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._over()


def _about(fetch: bytes) -> _About:
    try:
        return msgspec.json.decode(fetch, type=_About)
    except codec.DECODE_ERRORS:
        return _About()
