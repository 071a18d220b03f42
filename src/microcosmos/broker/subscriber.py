"""Subscribers: functions that handle the messages of a topic."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from microcosmos.base import context, errors, topics
from microcosmos.base.context import TRACE, Unasked
from microcosmos.base.recipient import Recipient, refusal

from .failures import Failure, plain
from .headers import check_queue, metadata_of
from .interface import Broker, Message
from .waiting import Waiting

log = logging.getLogger("microcosmos.broker")

CONCURRENCY = 16
"""Messages that one subscriber handles at once, unless it says otherwise."""

MAX_CONCURRENCY = 10_000
"""The most that a subscriber may say."""

DRAIN = 10.0
"""Seconds that a subscriber which stops has for the messages it was given."""

_TURN = 100


class Subscriber:
    """A function with the topic whose messages it handles.

    Args:
        function: takes the message's payload, read as its hint says, the `Message`, or both.
        pattern: a topic or a pattern of topics.
        queue: subscribers that give the same name share the messages: each goes to one of them.
        concurrency: messages that are handled at once; others wait, and too many are dropped.
        ordered: messages of one key are handled one after another, in their order.

    Attributes:
        handled: messages that it was through with.

    Raises:
        errors.BadRequest: no pattern, no name of a queue, or no concurrency.
        TypeError: the function cannot take messages; the text says why.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        pattern: str,
        *,
        queue: str = "",
        concurrency: int = CONCURRENCY,
        ordered: bool = False,
    ) -> None:
        self.pattern = topics.check_pattern(pattern)
        self.queue = check_queue(queue)
        if not isinstance(concurrency, int) or not 1 <= concurrency <= MAX_CONCURRENCY:
            detail = f"concurrency is a number from 1 to {MAX_CONCURRENCY}, not {concurrency!r:.40}"
            raise errors.BadRequest("broker", detail)
        self.concurrency = concurrency
        self.ordered = ordered
        self.recipient = Recipient(function, Message)
        self.handled = 0
        self._works: set[_Work] = set()

    @property
    def busy(self) -> int:
        """Messages that it was given and is not through with."""
        return sum(work.left for work in self._works)

    @asynccontextmanager
    async def on(
        self,
        broker: Broker,
        *,
        service: str,
        namespace: str = context.DEFAULT_NAMESPACE,
        client: object | None = None,
        drain: float = DRAIN,
    ) -> AsyncIterator[None]:
        """Handle messages until the block ends; entered, they are heard.

        Args:
            broker: carries them.
            service: whose the function is, for the log and for publishers.
            namespace: where that one lives.
            client: what it makes its calls with.
            drain: seconds, at the end, to handle what was heard.
        """
        name = f"{service}.{self.recipient.name}"
        work = _Work(self, broker, name, namespace, client)
        subscription = await broker.subscribe(self.pattern, work.take, queue=self.queue)
        self._works.add(work)
        try:
            yield
        finally:
            await subscription.close()
            await work.finish(drain)
            self._works.discard(work)


class _Work:
    """The messages that wait for one subscriber, and those that it handles."""

    def __init__(
        self,
        subscriber: Subscriber,
        broker: Broker,
        name: str,
        namespace: str,
        client: object | None,
    ) -> None:
        self._subscriber = subscriber
        self._recipient = subscriber.recipient
        self._concurrency = subscriber.concurrency
        self._waiting = Waiting(ordered=subscriber.ordered)
        self._broker = broker
        self._name = name
        self._namespace = namespace
        self._client = client
        self._working = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        # Whoever hands over a message, a handler has nothing of that one's circumstances.
        self._context = contextvars.copy_context()

    @property
    def left(self) -> int:
        """How many wait or are being handled."""
        return len(self._waiting) + self._working

    def take(self, message: Message) -> None:
        """Handle a message as soon as may be; a `Sink`."""
        if not self._waiting.put(message):
            self._broker.failures.drop(message.topic, self._name, len(self._waiting))
        elif self._waiting.ready and self._working < self._concurrency:
            self._working += 1
            work = self._loop.create_task(self._work(), context=self._context.copy())
            self._workers.add(work)
            work.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        handled = 0
        try:
            while (message := self._waiting.take()) is not None:
                try:
                    await self._handle(message)
                finally:
                    self._waiting.done(message)
                    self._subscriber.handled += 1
                handled += 1
                if handled % _TURN == 0:
                    # A function that waits for nothing lets nobody else have a turn.
                    await asyncio.sleep(0)
        finally:
            # Here and not when the task has ended: what comes in between needs another worker.
            self._working -= 1

    async def _handle(self, message: Message) -> None:
        metadata = metadata_of(message.headers, self._namespace)
        context.set_current(Unasked(metadata, None, None, self._client))
        try:
            await self._recipient(message, message.body)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - told, whatever it is
            await self._failed(message, exc)
        except asyncio.CancelledError as exc:
            # Of something that the function waited for, unless the work itself was cancelled.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            await self._failed(message, exc)

    async def _failed(self, message: Message, exc: BaseException) -> None:
        reason = plain(refusal(exc)) if isinstance(exc, Exception) else type(exc).__name__
        trace = message.headers.get(TRACE, "")
        unforeseen = None if isinstance(exc, errors.Error) else exc
        self._broker.failures.fail(Failure(message.topic, self._name, reason, trace), unforeseen)
        with contextlib.suppress(errors.Error):
            await self._broker.report(message, self._name, reason)

    async def finish(self, drain: float) -> None:
        """Handle what was given; what is not handled in so many seconds is given up."""
        if self._workers:
            await asyncio.wait(self._workers, timeout=drain)
        left = len(self._waiting) + len(self._workers)
        if left:
            log.warning("%s stops; messages that were not handled: %d", self._name, left)
        for task in [*self._workers]:
            task.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=1)
