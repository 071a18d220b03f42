"""A blocking stream through the proxy of another machine, for command lines."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Call
from microcosmos.rpc.server import CALLER, ITEMS

from .client import NOBODY, Trust, channel_to, headers_of, told

_AHEAD = 64
"""Messages that may wait to be sent: gRPC takes them as fast as the other side does."""


class ProxyStream:
    """A stream; one thread may read it while another sends. See `rpc.blocking.BlockingStream`.

    Args:
        address: as of `client.call`.
        call: the request; without a timeout the stream lasts as long as both sides.
        about: the endpoint's metadata, which says what the proxy takes as its messages.
        trust: whom to trust, if there is TLS.

    Raises:
        errors.BadRequest: metadata that gRPC cannot send.
    """

    def __init__(
        self, address: str, call: Call, about: Mapping[str, str], trust: Trust = NOBODY
    ) -> None:
        self._address = address
        self._call = call
        self._field = about.get(ITEMS, "")
        self._items: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._over = False
        handler, _, method = call.endpoint.partition(".")
        headers = headers_of(call.metadata, call.timeout)
        self._channel = channel_to(address, trust)
        send: Any = self._channel.stream_stream(f"/{call.service}.{handler}/{method}")
        takes = CALLER in about
        if not takes or self._field:
            # The request, which is a message of its own unless the messages are all there is.
            self._items.put(call.body or b"{}")
        self._answers: Any = send(
            iter(self._items.get, None), timeout=call.timeout, metadata=headers
        )

    def __enter__(self) -> ProxyStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the stream up, if it has not ended."""
        self._over = True
        self._answers.cancel()
        self.end()
        self._channel.close()

    def send(self, message: bytes) -> None:
        """Send a message; waits while the other side is too far behind.

        Raises:
            errors.Conflict: the stream has ended.
        """
        wrapped = message
        if self._field:
            wrapped = codec.encode({self._field: msgspec.Raw(message)})
        while not self._over:
            try:
                self._items.put(wrapped, timeout=0.2)
                return
            except queue.Full:
                continue
        raise errors.Conflict(self._call.service, "the stream has ended")

    def end(self) -> None:
        """Say that no more messages come from here."""
        while True:
            try:
                self._items.put(None, timeout=0.2)
                return
            except queue.Full:
                if self._over:
                    return

    def __iter__(self) -> Iterator[bytes]:
        """The messages of the other side, until it ends.

        Raises:
            errors.Error: what the stream ended by.
        """
        try:
            with told(self._address, self._call):
                yield from self._answers
        finally:
            self._over = True
