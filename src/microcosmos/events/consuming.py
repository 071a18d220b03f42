"""Consumers: functions that work a group off."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from microcosmos.base import context, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import NAMESPACE, TRACE, Metadata, Unasked, new_trace
from microcosmos.base.recipient import Recipient, refusal

from .checks import check_delay, check_spec, one_line
from .holding import Holding
from .interface import Delivery, Event, Group, GroupSpec, Log
from .pace import Pace
from .schema import Contracts
from .taken import effect_of
from .transactions.inbox import Inbox
from .transactions.transaction import Transaction, transact

log = logging.getLogger("microcosmos.events")

CONCURRENCY = 16
"""Events that one consumer works on at once, unless it says otherwise."""

MAX_CONCURRENCY = 1000
"""The most that a consumer may say."""

RETRY_LIMIT = 10
"""Times that an event is tried again before it becomes a dead letter, unless a consumer says."""

SPARE = 5
"""Times beyond these that it is given out: members that end give back what they did not begin.

Who had it so often and never said what became of it has died of it.
"""

DRAIN = 5.0
"""Seconds that a consumer which stops has for the events that it is working on."""

AHEAD = 256
"""Events that a quick consumer has in its hands at most, beside those that it works on."""

RETRY_EVERY = 0.5
"""Seconds between two tries to reach the engine."""

PATIENCE = 6
"""Tries after which a member begins anew, as another one."""

_TURN = 100


class Reject(Exception):
    """Raised by a consumer's function: this event can never be worked off.

    It becomes a dead letter at once, with the text as the reason.
    """


class Backoff(msgspec.Struct, frozen=True):
    """How long an event that failed is left alone: twice as long each time.

    Attributes:
        first: seconds after the first failure.
        longest: the most.
    """

    first: float = 1.0
    longest: float = 60.0

    def delay(self, attempt: int) -> float:
        """Seconds after an attempt that failed; 1 is the first."""
        return float(min(self.first * 2.0 ** min(attempt - 1, 60), self.longest))


class Counts(msgspec.Struct):
    """What became of the events of a consumer since it started.

    Attributes:
        processed: worked off.
        failed: attempts that failed, each one.
        buried: given up: dead letters.
        repeated: had been worked off before, and had no second effect.
    """

    processed: int = 0
    failed: int = 0
    buried: int = 0
    repeated: int = 0


class Consumer:
    """A function that works a group off: what it returns from is acknowledged.

    What it raises for is given out again, later each time (`Backoff`), and is a dead letter after
    `RETRY_LIMIT` times; at once, if it raises `Reject`, or the payload is not of its type or
    breaks its schema. No event ends a consumer. In an ordered group the events of a key wait for
    the one before, its retries too.

    Attributes:
        spec: the group.
        recipient: the function.
        counts: what became of events.
        busy: how many it works on just now.

    Args:
        recipient: the function.
        spec: the group.
        retry_limit: times that an event is tried again.
        backoff: how long it is left alone before.
        concurrency: events that are worked on at once.
        contracts: what events are checked by.
        clock: what waiting goes by.

    Raises:
        errors.BadRequest: numbers that cannot be.
    """

    def __init__(
        self,
        recipient: Recipient,
        spec: GroupSpec,
        *,
        retry_limit: int = RETRY_LIMIT,
        backoff: Backoff | None = None,
        concurrency: int = CONCURRENCY,
        contracts: Contracts | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.spec = check_spec(spec)
        self.recipient = recipient
        self.counts = Counts()
        self.busy = 0
        self.retry_limit = retry_limit
        self.backoff = backoff or Backoff()
        self.concurrency = concurrency
        self.contracts = contracts
        self.clock = clock
        check_delay(self.backoff.first)
        check_delay(self.backoff.longest)
        if not isinstance(retry_limit, int) or retry_limit < 0:
            raise errors.BadRequest("events", f"retry_limit is 0 or more, not {retry_limit!r:.40}")
        if not isinstance(concurrency, int) or not 1 <= concurrency <= MAX_CONCURRENCY:
            detail = f"concurrency is a number from 1 to {MAX_CONCURRENCY}, not {concurrency!r:.40}"
            raise errors.BadRequest("events", detail)

    @asynccontextmanager
    async def on(
        self,
        events: Log,
        *,
        inbox: Inbox | None = None,
        namespace: str = context.DEFAULT_NAMESPACE,
        client: object | None = None,
        drain: float = DRAIN,
    ) -> AsyncIterator[None]:
        """Work the group off until the block ends; entered, the group is there.

        While the engine is away when it begins, the block is entered nevertheless, and the group
        is joined later.

        Args:
            events: where they are.
            inbox: where it is noted what was done, for a function that takes a `Transaction`.
            namespace: where the function's service lives.
            client: what it makes its calls with.
            drain: seconds, at the end, for what is being worked on; the rest is given back.

        Raises:
            errors.Conflict: there is such a group, ordered otherwise.
            errors.Error: any other refusal of the group.
        """
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = _Work(self, inbox, namespace, client)
        task = asyncio.create_task(self._run(events, work, joined, drain), name=f"{self}")
        try:
            await joined
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def __str__(self) -> str:
        return f"{self.recipient.name} of {self.spec.name or 'nobody'} on {self.spec.topic}"

    async def _run(
        self, events: Log, work: _Work, joined: asyncio.Future[None], drain: float
    ) -> None:
        while True:
            entered = False
            try:
                async with events.group(self.spec) as group:
                    entered = True
                    if not joined.done():
                        joined.set_result(None)
                    async with Holding(group, self.clock) as held:
                        await work.off(group, held, drain)
            except (errors.Unavailable, errors.DeadlineExceeded, errors.NotFound) as exc:
                # Whom the group is deleted from makes it again: a service that runs wants it.
                told = "begins again" if entered else "waits"
                log.info("%s %s: %s", self, told, exc.detail)
                if not joined.done():
                    joined.set_result(None)
            except errors.Error as exc:
                if not joined.done():
                    joined.set_exception(exc)
                    return
                log.error("%s cannot go on, and tries again: %s", self, exc.detail)
            except Exception as exc:
                if not joined.done():
                    joined.set_exception(exc)
                    return
                log.exception("%s failed, and begins again", self)
            await self.clock.sleep(RETRY_EVERY)


class _Work:
    """The events that a consumer has in its hands, and those who work on them."""

    def __init__(
        self, consumer: Consumer, inbox: Inbox | None, namespace: str, client: object | None
    ) -> None:
        self._consumer = consumer
        self._recipient = consumer.recipient
        self._counts = consumer.counts
        self._inbox = inbox
        self._namespace = namespace
        self._client = client
        self._waiting: deque[Delivery] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._working = 0
        self._room = asyncio.Event()
        concurrency = consumer.concurrency
        self._pace = Pace(concurrency, concurrency + AHEAD, consumer.clock)

    async def off(self, group: Group, held: Holding, drain: float) -> None:
        """Work a group off until it ends, the engine is away for long, or this is cancelled."""
        try:
            await self._pull(group, held)
        except asyncio.CancelledError:
            await self._finish(drain)
            raise
        except errors.Error:
            # What is begun is brought to its end, however long that takes.
            try:
                while self._workers:
                    await asyncio.wait(self._workers)
            except asyncio.CancelledError:
                await self._finish(drain)
                raise
            raise

    async def _pull(self, group: Group, held: Holding) -> None:
        failures = 0
        while True:
            ahead = self._pace.limit - self._consumer.concurrency
            if len(held) >= self._pace.limit or len(self._waiting) > ahead // 2:
                self._room.clear()
                await self._room.wait()
                continue
            self._pace.through()
            room = max(self._pace.limit - len(held), 1)
            try:
                deliveries = await group.pull(room)
            except (errors.Unavailable, errors.DeadlineExceeded) as exc:
                failures += 1
                if failures == PATIENCE:
                    raise
                log.info("%s waits: %s", self._consumer, exc.detail)
                await self._consumer.clock.sleep(RETRY_EVERY)
                continue
            failures = 0
            self._pace.took(len(deliveries), room)
            for delivery in deliveries:
                held.add(delivery)
            self._waiting.extend(deliveries)
            while self._working < min(self._consumer.concurrency, len(held)):
                self._working += 1
                worker = asyncio.create_task(self._work(group, held), name=f"{self._consumer}")
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)

    async def _work(self, group: Group, held: Holding) -> None:
        handled = 0
        self._consumer.busy += 1
        try:
            while self._waiting:
                delivery = self._waiting.popleft()
                if held.begin(delivery):
                    await self._handle(group, delivery)
                    held.drop(delivery)
                self._room.set()
                handled += 1
                if handled % _TURN == 0:
                    # A function that waits for nothing lets nobody else have a turn.
                    await asyncio.sleep(0)
        finally:
            # Here and not when the task has ended: what comes in between needs another worker.
            self._working -= 1
            self._consumer.busy -= 1

    async def _finish(self, drain: float) -> None:
        """Bring to an end what is begun; what is not ended in so many seconds is given back."""
        self._waiting.clear()
        if self._workers:
            await asyncio.wait(self._workers, timeout=drain)
        if self._workers:
            log.warning("%s stops; given back unfinished: %d", self._consumer, len(self._workers))
        for worker in [*self._workers]:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=1)

    async def _handle(self, group: Group, delivery: Delivery) -> None:
        """See to one event; whatever it is, it ends nothing."""
        event, limit = delivery.event, self._consumer.retry_limit
        context.set_current(Unasked(self._metadata(event), None, None, self._client))
        if delivery.only not in ("", group.spec.name):
            await self._settle(delivery, group.ack(delivery))
            return
        if delivery.attempt > limit + 1 + SPARE:
            given = (
                f"it was given out {delivery.attempt - 1} times, and nobody said what came of it"
            )
            await self._bury(group, delivery, given)
            return
        try:
            await self._check(event)
            arguments = self._recipient.given(event, event.payload)
        except errors.BadRequest as exc:
            await self._bury(group, delivery, f"the payload cannot be read: {exc.detail}")
            return
        try:
            if self._recipient.companion:
                await self._once(event, arguments)
            else:
                await self._recipient.call(arguments)
        except Reject as exc:
            await self._bury(group, delivery, refusal(exc).removeprefix("Reject: "))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - told, whatever it is
            await self._failed(group, delivery, exc)
        except asyncio.CancelledError as exc:
            # Of something that the function waited for, unless the work itself was cancelled.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            await self._failed(group, delivery, exc)
        else:
            self._counts.processed += 1
            if self._recipient.companion:
                await self._settle(delivery, group.ack_sync(delivery))
            else:
                await self._settle(delivery, group.ack(delivery))

    async def _check(self, event: Event) -> None:
        """Check an event by its schema; when that cannot be had, it is not the event's fault."""
        while self._consumer.contracts is not None:
            try:
                await self._consumer.contracts.reading(event)
                return
            except errors.BadRequest:
                raise
            except errors.Error as exc:
                log.info("%s waits: %s", self._consumer, exc.detail)
            await self._consumer.clock.sleep(RETRY_EVERY)

    async def _once(self, event: Event, arguments: dict[str, Any]) -> None:
        """Let the function's writes be committed with the note that the event had its effect."""
        if self._inbox is None:
            raise RuntimeError("a function that takes a Transaction needs a store")
        inbox, effect = self._inbox, effect_of(self._consumer.spec)

        async def work(transaction: Transaction) -> None:
            if transaction.done:
                self._counts.repeated += 1
            else:
                await self._recipient.call({**arguments}, transaction)

        while True:
            try:
                await transact(lambda: inbox.once(effect, event.id), work)
                return
            except (errors.Unavailable, errors.DeadlineExceeded):
                if not await self._was_away(inbox, effect, event):
                    raise

    async def _was_away(self, inbox: Inbox, effect: str, event: Event) -> bool:
        """Wait for the store, and tell whether it was away: that is no fault of the event's."""
        away = False
        while True:
            try:
                await inbox.has(effect, event.id)
                return away
            except (errors.Unavailable, errors.DeadlineExceeded) as exc:
                away = True
                log.info("%s waits: %s", self._consumer, exc.detail)
            await self._consumer.clock.sleep(RETRY_EVERY)

    async def _failed(self, group: Group, delivery: Delivery, exc: BaseException) -> None:
        self._counts.failed += 1
        reason = refusal(exc) if isinstance(exc, Exception) else type(exc).__name__
        if delivery.attempt > self._consumer.retry_limit:
            await self._bury(group, delivery, reason)
        else:
            # Where it failed is of use for what nobody foresaw.
            stack = None if isinstance(exc, errors.Error) else exc
            await self._retry(group, delivery, reason, stack)

    async def _retry(
        self, group: Group, delivery: Delivery, reason: str, exc: BaseException | None = None
    ) -> None:
        delay, event = self._consumer.backoff.delay(delivery.attempt), delivery.event
        what = f"{self._consumer}: event {event.id} of {event.topic} failed"
        line = "%s (attempt %d), again in %g s: %s"
        log.warning(line, what, delivery.attempt, delay, one_line(reason), exc_info=exc)
        await self._settle(delivery, group.nack(delivery, delay))

    async def _bury(self, group: Group, delivery: Delivery, reason: str) -> None:
        self._counts.buried += 1
        event = delivery.event
        line = "%s: event %s of %s is a dead letter (attempt %d): %s"
        reason = one_line(reason)
        log.error(line, self._consumer, event.id, event.topic, delivery.attempt, reason)
        await self._settle(delivery, group.bury(delivery, reason))

    async def _settle(self, delivery: Delivery, settling: Coroutine[Any, Any, None]) -> None:
        """Tell the engine; what it is not told is given out again after ``ack_wait``."""
        try:
            await settling
        except errors.Error as exc:
            event = delivery.event
            line = "%s: event %s of %s comes again: %s"
            log.warning(line, self._consumer, event.id, event.topic, exc.detail)

    def _metadata(self, event: Event) -> Metadata:
        metadata = {**event.metadata}
        if TRACE not in metadata:
            metadata[TRACE] = new_trace()
        if self._namespace != context.DEFAULT_NAMESPACE:
            metadata[NAMESPACE] = self._namespace
        return Metadata.wrap(metadata)
