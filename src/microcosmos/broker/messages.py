"""Messages: the broker as authors use it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from microcosmos.base import errors, payload

from .headers import BYTES, CONTENT_TYPE, JSON, travelling
from .interface import KEY, Broker
from .listening import Listening, listening


class Messages:
    """Publishes and listens.

    Args:
        broker: carries the messages.
        name: who does it, for the log.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name

    async def publish(
        self,
        topic: str,
        message: Any,
        *,
        metadata: Mapping[str, str] | None = None,
        key: str = "",
    ) -> None:
        """Send a message to all who listen just now: every subscriber, and one of each queue.

        It takes along the metadata and the trace of the call that is being handled, but never who
        called. Returned, it is on its way; nobody says whether it was heard.

        Args:
            topic: what it is published under.
            message: anything that JSON carries; bytes go as they are.
            metadata: beside what it takes along.
            key: messages of one key are handled in order, by subscribers that are ``ordered``.

        Raises:
            errors.BadRequest: a topic, a message or metadata that cannot be sent.
            errors.TooLarge: it has over 8 MiB.
            errors.Unavailable: the engine cannot be reached.
        """
        headers = travelling()
        if isinstance(message, bytes):
            headers[CONTENT_TYPE] = BYTES
            body = message
        else:
            headers[CONTENT_TYPE] = JSON
            body = _encoded(message)
        if metadata:
            headers.update(metadata)
        if key:
            headers[KEY] = key
        await self._broker.publish(topic, body, headers)

    def subscribe(self, pattern: str, *, queue: str = "") -> AbstractAsyncContextManager[Listening]:
        """Listen until the block ends.

            async with service.broker.subscribe("users.*") as messages:
                async for message in messages: ...

        Args:
            pattern: a topic, or a pattern: ``*`` stands for one part, a last ``>`` for all that
                follow.
            queue: those who give the same name share the messages: each goes to one of them.

        Raises:
            errors.BadRequest: on entry: no pattern, or no name of a queue.
            errors.Unavailable: on entry: the engine cannot be reached.
        """
        return listening(self._broker, pattern, queue=queue, name=self._name)


def _encoded(message: Any) -> bytes:
    try:
        return payload.encode(message)
    except (TypeError, NotImplementedError, ValueError, RecursionError, msgspec.EncodeError) as exc:
        detail = f"a {type(message).__name__} cannot be a message: {exc}"
        raise errors.BadRequest("broker", detail) from None
