"""A WebSocket as Granian has it, for connections that cannot be lent: those with TLS.

It answers pings but sends none, closes without a code, and tells how long a message is once it is
there. The kernel finds out when a client is lost.
"""

from __future__ import annotations

from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import errors
from microcosmos.rpc import MAX_BODY
from microcosmos.rpc.http import BINARY, TEXT

_FAILED = (RSGIProtocolClosed, RSGIProtocolError)
_CLOSE = 0


class Borrowed:
    """A WebSocket of Granian's; see `websocket.WebSocket`.

    Args:
        transport: what Granian gave when it was accepted.
        limit: the longest message, in bytes.
        marked: as of `websocket.Lent`.
    """

    def __init__(self, transport: Any, limit: int = MAX_BODY, *, marked: bool = False) -> None:
        self._marked = marked
        self._transport = transport
        self._limit = limit
        self._over = False

    async def receive(self) -> bytes | None:
        """See `websocket.WebSocket`.

        Raises:
            errors.TooLarge: the message is over the limit.
        """
        try:
            message = await self._transport.receive()
        except _FAILED:
            return None
        if message.kind == _CLOSE:
            return None
        data: str | bytes = message.data
        whole = data.encode() if isinstance(data, str) else data
        if len(whole) > self._limit:
            detail = f"a message has {len(whole)} bytes; the limit is {self._limit}"
            raise errors.TooLarge("gateway", detail)
        if self._marked:
            return (TEXT if isinstance(data, str) else BINARY) + whole
        return whole

    async def send(self, message: bytes) -> None:
        """See `websocket.WebSocket`."""
        if not self._over:
            try:
                if self._marked and message[:1] == BINARY:
                    await self._transport.send_bytes(message[1:])
                else:
                    text = message[1:] if self._marked else message
                    await self._transport.send_str(text.decode(errors="replace"))
            except _FAILED:
                self._over = True

    async def close(self, code: int, reason: str = "") -> None:
        """See `websocket.WebSocket`; the code stays here."""
        self._over = True

    def release(self) -> None:
        """See `websocket.WebSocket`."""
        # The connection is open as long as anybody has this, and an error's traceback may.
        self._transport = None
