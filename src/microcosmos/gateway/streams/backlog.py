"""How far the streams of one HTTP/2 connection are ahead of their client.

A socket that takes more says nothing there: one stream may be held up while others flow. So what
was given is compared with what the client's kernel has acknowledged, of all of them together.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time

from microcosmos.base import errors

AHEAD = 1024 * 1024
"""Bytes that the streams of one HTTP/2 connection may be ahead of their client."""

STALLED = 30.0
"""Seconds after which a stream is ended whose HTTP/2 client reads nothing."""

_EVERY = 0.02
# https://github.com/torvalds/linux/blob/master/include/uapi/linux/tcp.h: tcpi_bytes_acked
_ACKED = 120


class Backlog:
    """The account of one connection.

    Args:
        number: its descriptor.
        stalled: seconds that a client may read nothing.
    """

    def __init__(self, number: int, stalled: float = STALLED) -> None:
        self._number = number
        self._stalled = stalled
        self._given = 0
        self._before = acknowledged(number)
        self.users = 0

    def give(self, size: int) -> None:
        """So many bytes were sent."""
        self._given += size

    async def room(self) -> None:
        """Wait until the client is near enough.

        Raises:
            errors.RequestTimeout: it reads nothing for too long.
        """
        last, since = -1, time.monotonic()
        while (ahead := self._ahead()) > AHEAD:
            if ahead != last:
                last, since = ahead, time.monotonic()
            elif time.monotonic() - since > self._stalled:
                detail = f"the client read nothing for {self._stalled:g} s"
                raise errors.RequestTimeout("gateway", detail)
            await asyncio.sleep(_EVERY)

    def _ahead(self) -> int:
        taken = acknowledged(self._number) - self._before
        # Other answers and the frames themselves are acknowledged too: no credit for later.
        self._given = max(self._given, taken)
        return self._given - taken


def acknowledged(number: int) -> int:
    """Bytes of a connection that its client's kernel has taken; 0 where nobody counts them."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, struct.error):
        looked_at = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
        try:
            told = looked_at.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED + 8)
        finally:
            looked_at.detach()
        return int(struct.unpack_from("Q", told, _ACKED)[0])
    return sys.maxsize
