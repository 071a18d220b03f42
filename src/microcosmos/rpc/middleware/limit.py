"""How many calls a service handles at once."""

from __future__ import annotations

from microcosmos.base import errors
from microcosmos.rpc.interface import Call, Handler, Middleware

DEFAULT_CONCURRENCY = 1000
"""Calls that a replica handles at once unless its author says otherwise."""


def limit(concurrency: int = DEFAULT_CONCURRENCY) -> Middleware:
    """Refuse calls with a 429 while ``concurrency`` others are being handled.

    One count is shared by every handler that the returned middleware wraps.
    """
    active = 0

    def wrap(handler: Handler) -> Handler:
        async def limited(call: Call) -> bytes:
            nonlocal active
            if active >= concurrency:
                raise errors.TooManyRequests(
                    call.service,
                    f"{call.service} handles {concurrency} calls already; try again later",
                )
            active += 1
            try:
                return await handler(call)
            finally:
                active -= 1

        return limited

    return wrap
