"""How many calls a service handles at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from microcosmos.base import errors
from microcosmos.rpc.interface import Call, Handler, StreamHandler

DEFAULT_CONCURRENCY = 1000
"""Calls and streams that a replica handles at once unless its author says otherwise."""


class Limit:
    """Refuses calls with a 429 while as many others are being handled.

    One count is shared by every handler that it wraps; a stream counts as long as it is open.

    Args:
        concurrency: how many.
    """

    def __init__(self, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        self._concurrency = concurrency
        self._active = 0

    def call(self, handler: Handler) -> Handler:
        """See `interface.Middleware`."""

        async def limited(call: Call) -> bytes:
            if self._active >= self._concurrency:
                raise self._full(call)
            self._active += 1
            try:
                return await handler(call)
            finally:
                self._active -= 1

        return limited

    def stream(self, handler: StreamHandler) -> StreamHandler:
        """See `interface.Middleware`."""

        async def limited(
            call: Call, messages: AsyncIterator[bytes]
        ) -> AsyncGenerator[bytes, None]:
            if self._active >= self._concurrency:
                raise self._full(call)
            self._active += 1
            try:
                async with aclosing(handler(call, messages)) as answers:
                    async for answer in answers:
                        yield answer
            finally:
                self._active -= 1

        return limited

    def _full(self, call: Call) -> errors.TooManyRequests:
        return errors.TooManyRequests(
            call.service,
            f"{call.service} handles {self._concurrency} calls already; try again later",
        )
