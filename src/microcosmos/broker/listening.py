"""Listening: messages one after another, for a program that reads them itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .failures import Failures
from .interface import Broker, Message
from .waiting import MAX_WAITING, MAX_WAITING_BYTES, Waiting


class Listening:
    """An endless iterator of messages; made by `listening`.

    Who reads too slowly loses messages: so many wait at most.
    """

    def __init__(self, failures: Failures, name: str, waiting: Waiting) -> None:
        self._failures = failures
        self._name = name
        self._waiting = waiting
        self._came = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while (message := self._waiting.take()) is None:
            self._came.clear()
            await self._came.wait()
        return message

    def take(self, message: Message) -> None:
        """Let a message wait to be read; a `Sink`."""
        if self._waiting.put(message):
            self._came.set()
        else:
            self._failures.drop(message.topic, self._name, len(self._waiting))


@asynccontextmanager
async def listening(
    broker: Broker,
    pattern: str,
    *,
    queue: str = "",
    name: str,
    most: int = MAX_WAITING,
    most_bytes: int = MAX_WAITING_BYTES,
) -> AsyncIterator[Listening]:
    """Listen until the block ends; what is published in it is heard.

    Args:
        broker: carries the messages.
        pattern: a topic or a pattern of topics.
        queue: those who give the same name share the messages.
        name: who listens, for the log.
        most: messages that wait to be read; further ones are dropped.
        most_bytes: that these have.

    Raises:
        errors.Error: as `Broker.subscribe` does.
    """
    messages = Listening(broker.failures, name, Waiting(most=most, most_bytes=most_bytes))
    subscription = await broker.subscribe(pattern, messages.take, queue=queue)
    try:
        yield messages
    finally:
        await subscription.close()
