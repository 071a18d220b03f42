"""Handshakes: which WebSockets are let in, and how the others are told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from microcosmos.base import errors
from microcosmos.gateway import answer

from .beats import Beats
from .borrowed import Borrowed
from .descriptors import Descriptors, Held, connection_of
from .websocket import Lent, WebSocket


class Handshakes:
    """Lets WebSockets in.

    Args:
        descriptors: finds their connections.
        beats: pings them.
    """

    def __init__(self, descriptors: Descriptors, beats: Beats) -> None:
        self._descriptors = descriptors
        self._beats = beats

    async def accept(self, scope: Any, proto: Any, *, marked: bool = False) -> WebSocket:
        """Let one in. Once it is over, it is released, and then ``proto`` closed.

        Args:
            scope: the request.
            proto: its exchange.
            marked: whether messages have a byte before them that says what they are.

        Raises:
            RSGIProtocolError: the client has gone.
        """
        transport = await proto.accept()
        held = self._hold(scope)
        if held is None:
            return Borrowed(transport, marked=marked)
        lent = Lent(self._beats, marked=marked)
        await lent.start(held)
        return lent

    def refuse(
        self,
        scope: Any,
        proto: Any,
        request: dict[str, str],
        error: errors.Error,
        metadata: dict[str, str],
    ) -> None:
        """Answer as any request is answered; with TLS the status alone can be told."""
        if held := self._hold(scope):
            answer.send_error(_Written(held), request, error, metadata)
            held.release()
        proto.close(error.code)

    def _hold(self, scope: Any) -> Held | None:
        # What the connection itself speaks: a proxy before us may have said https.
        return None if connection_of(scope).scheme == "https" else self._descriptors.hold(scope)


class _Written:
    """An answer written to a connection, which Granian would give no body."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def response_bytes(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Write it; the connection ends with it."""
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in headers),
            f"content-length: {len(body)}",
            "connection: close",
        ]
        # Whatever fails here, the client is gone.
        with contextlib.suppress(OSError):
            self._held.socket.send("\r\n".join((*lines, "", "")).encode("latin-1") + body)
            self._held.socket.shutdown(socket.SHUT_WR)
