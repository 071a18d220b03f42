"""Bodies of requests to functions: short ones whole, others as they come."""

from __future__ import annotations

import asyncio
from typing import Any

from microcosmos.base import errors
from microcosmos.functions.calling import Exchange
from microcosmos.functions.wire import WINDOW
from microcosmos.gateway.raw.forward import MAX_UPLOAD
from microcosmos.rpc.deadlines import Deadlines

from .answers import FAILED

WHOLE = WINDOW
"""The most bytes of a body that is read before its function hears of the request."""

_BODILESS = frozenset({"GET", "HEAD"})


def length_of(scope: Any, method: str, request: dict[str, str]) -> int:
    """The bytes of the body, if it is short, and says so; else -1."""
    if "content-length" in request and "transfer-encoding" not in request:
        # Granian has refused what is no plain number.
        length = int(request["content-length"])
        return length if length <= WHOLE else -1
    if "transfer-encoding" in request:
        return -1
    # In HTTP/2 nothing says whether a body follows; in HTTP/1.1 none does.
    return 0 if method in _BODILESS or scope.http_version != "2" else -1


class Slowness:
    """Ends the reading of bodies that come too slowly, at the cost of one timer.

    Args:
        seconds: that a body may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._late: set[asyncio.Task[Any]] = set()
        self._deadlines: Deadlines[asyncio.Task[Any]] | None = None

    async def read(self, proto: Any) -> bytes:
        """A short body, whole.

        Raises:
            errors.BadRequest: it broke off.
            errors.RequestTimeout: it takes too long.
        """
        task = self._begin()
        try:
            body: bytes = await proto()
        except FAILED:
            raise broken() from None
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            detail = f"the body did not arrive within {self._seconds:g} s"
            raise errors.RequestTimeout("gateway", detail) from None
        finally:
            self._end(task)
        return body

    def _begin(self) -> asyncio.Task[Any]:
        if self._deadlines is None:
            self._deadlines = Deadlines(self._expire)
        task = asyncio.current_task()
        assert task is not None
        self._deadlines.add(task, self._seconds)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        assert self._deadlines is not None
        self._deadlines.discard(task)
        self._late.discard(task)

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._late.add(task)
        task.cancel()


async def upload(proto: Any, exchange: Exchange, patience: float) -> None:
    """Send a body as fast as its function reads.

    Args:
        proto: gives its parts.
        exchange: takes them.
        patience: seconds that a part may take to come.

    Raises:
        errors.TooLarge: it has more than `MAX_UPLOAD` bytes.
        errors.BadRequest: it broke off.
        errors.RequestTimeout: nothing came for too long.
    """
    size = ends = 0
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(patience) as limit:
            async for part in proto:
                if not part:
                    ends += 1
                    continue
                size += len(part)
                if size > MAX_UPLOAD:
                    detail = f"the body is over the limit of {MAX_UPLOAD} bytes"
                    raise errors.TooLarge("gateway", detail)
                # A function may take its time, as a client may not.
                limit.reschedule(None)
                await exchange.send(part)
                limit.reschedule(now() + patience)
    except TimeoutError:
        detail = f"nothing of the body came for {patience:g} s"
        raise errors.RequestTimeout("gateway", detail) from None
    except FAILED:
        raise broken() from None
    # Granian ends a body with an empty part, and has another where it broke off.
    if ends > 1:
        raise broken()
    await exchange.end()


def broken() -> errors.BadRequest:
    """The error of a body whose client stopped in the middle of it."""
    return errors.BadRequest("gateway", "the body broke off, or its chunks are malformed")
