"""Calls on their way: their numbers, the futures that wait, and their deadlines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from microcosmos.base import errors

from .deadlines import Deadlines
from .interface import Call, late


class Pending:
    """Waits for answers.

    Args:
        abandoned: called with a call whose caller no longer waits, and its number, so that the
            other side can be told.
    """

    def __init__(self, abandoned: Callable[[int, Call], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[Call, asyncio.Future[bytes]]] = {}
        self._numbers = itertools.count(1)
        self._abandoned = abandoned
        self._deadlines = Deadlines(self._expire)

    def __len__(self) -> int:
        return len(self._waiting)

    def number(self) -> int:
        """A number that no other call has, for a stream."""
        return next(self._numbers) & 0xFFFFFFFF

    def begin(self, call: Call) -> tuple[int, asyncio.Future[bytes]]:
        """A number for a call, and where its answer will be."""
        number = self.number()
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = (call, future)
        if call.timeout is not None:
            self._deadlines.add(number, call.timeout)
        return number, future

    async def wait(self, number: int, future: asyncio.Future[bytes]) -> bytes:
        """The answer to a call that was sent; a cancelled wait is told to the other side."""
        try:
            return await future
        except asyncio.CancelledError:
            if waiting := self._waiting.get(number):
                self._abandoned(number, waiting[0])
            raise
        finally:
            self.forget(number)

    def forget(self, number: int) -> None:
        """Nobody waits for this call."""
        if self._waiting.pop(number, None):
            self._deadlines.discard(number)

    def service(self, number: int) -> str:
        """Whom a call went to."""
        waiting = self._waiting.get(number)
        return waiting[0].service if waiting else ""

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back once every call that waits now has ended, at once if there is none."""
        left = {future for _, future in self._waiting.values() if not future.done()}

        def ended(future: asyncio.Future[bytes]) -> None:
            left.discard(future)
            if not left:
                callback()

        for future in list(left):
            future.add_done_callback(ended)
        if not left:
            callback()

    def resolve(self, number: int, answer: bytes) -> None:
        """The answer has come."""
        if (waiting := self._waiting.get(number)) and not waiting[1].done():
            waiting[1].set_result(answer)

    def fail(self, number: int, error: Exception) -> None:
        """An error has come instead."""
        if (waiting := self._waiting.get(number)) and not waiting[1].done():
            waiting[1].set_exception(error)

    def fail_all(self, reason: str, service: str = "") -> None:
        """The line broke, or one service died: none of its calls will be answered."""
        for call, future in list(self._waiting.values()):
            if not future.done() and service in ("", call.service):
                detail = f"{reason} before {call.service} {call.endpoint} answered"
                future.set_exception(errors.ConnectionLost(call.service, detail))

    def close(self) -> None:
        """Stop waiting for anything."""
        self.fail_all("the connection was closed")
        self._deadlines.close()

    def _expire(self, number: int) -> None:
        if waiting := self._waiting.get(number):
            self._abandoned(number, waiting[0])
            self.fail(number, late(waiting[0]))
