"""Sending: the events of a group on a stream of Micro v3's, and what comes back on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from microcosmos.base import errors
from microcosmos.base.tasks import background

from . import wire
from .interface import Delivery, Event, Group

log = logging.getLogger("microcosmos.events")

AHEAD = 16
"""Events that are pulled before their turn to be sent."""

PAUSE = 0.5
"""Seconds until a group is asked again whose engine could not be reached."""

FIRST_DELAY = 0.1
"""Seconds until an event is sent again the first time that it was refused; each time doubled."""

LONGEST_DELAY = 10.0
"""The most of those seconds."""

_UNACKNOWLEDGED = "sent {} times and never acknowledged"
_REFUSED = "refused {} times by its consumer"


class Sending:
    """Sends the events of a group, and settles them as its receiver says.

    An event that is acknowledged automatically is done with once it was taken from here. One that
    is not is sent again after ``ack_wait``, or when it is refused, until ``retry_limit``; then it
    is a dead letter. Of a receiver that asked for acknowledgements of its own without saying for
    how long (which is how a plain client of protobuf asks that says nothing at all), what was
    sent is acknowledged once it has closed its side of the stream: it cannot do so itself.

    Args:
        group: whose events.
        request: how they are wanted.
        authorise: raises once the receiver may have them no more.
    """

    def __init__(
        self, group: Group, request: wire.ConsumeRequest, authorise: Callable[[], None]
    ) -> None:
        self._group = group
        self._authorise = authorise
        self._manual = not request.auto_ack
        self._vague = self._manual and request.ack_wait <= 0
        self._retries = -1 if self._vague and not request.retry_limit else request.retry_limit
        self._limit = request.limit
        self._waiting: deque[Delivery] = deque()
        self._sending: Delivery | None = None
        self._pulled = 0.0
        self._sent: dict[str, deque[Delivery]] = {}
        self._settled = asyncio.Event()
        self._broken: asyncio.Future[errors.Error] = asyncio.get_running_loop().create_future()
        self._beat = group.spec.ack_wait / 3

    async def events(self, acks: AsyncIterator[wire.AckRequest]) -> AsyncGenerator[Event, None]:
        """The events, while acknowledgements are read beside them.

        Raises:
            errors.BadRequest: what came back was no acknowledgement.
            errors.Forbidden: the receiver may have them no more.
            errors.NotFound: the group was deleted.
        """
        try:
            async with (
                background(self._read(acks), "acknowledgements"),
                background(self._keep(), "events that wait"),
            ):
                number = 0
                while not self._limit or number < self._limit:
                    delivery = await self._next()
                    if await self._unfit(delivery):
                        continue
                    number += 1
                    self._sending = delivery
                    if self._manual:
                        self._remember(delivery)
                        yield delivery.event
                        await self._wait_anew(delivery)
                    else:
                        yield delivery.event
                        await self._settle(self._group.ack(delivery))
                    self._sending = None
                while self._sent:
                    self._settled.clear()
                    await self._unless_broken(self._settled.wait())
        finally:
            await self._give_back()

    async def _next(self) -> Delivery:
        while not self._waiting:
            await self._unless_broken(self._pull())
        self._authorise()
        return self._waiting.popleft()

    async def _pull(self) -> None:
        most = min(AHEAD, self._limit or AHEAD)
        try:
            self._waiting.extend(await self._group.pull(most))
            self._pulled = time.monotonic()
        except errors.Unavailable as error:
            log.info("events of %s wait: %s", self._group.spec.topic, error.detail)
            await asyncio.sleep(PAUSE)

    async def _unless_broken(self, doing: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, but not once what came back could not be read."""
        task = asyncio.create_task(doing)
        try:
            await asyncio.wait((task, self._broken), return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                raise self._broken.result()
            task.result()
        finally:
            task.cancel()

    async def _wait_anew(self, delivery: Delivery) -> None:
        """Give the receiver its whole time from when it was sent the event."""
        if time.monotonic() - self._pulled > self._beat / 10:
            known = self._sent.get(delivery.event.id, ())
            if any(one is delivery for one in known):
                await self._settle(self._group.working(delivery))

    async def _unfit(self, delivery: Delivery) -> bool:
        """Whether an event is not to be sent; it is settled then."""
        spec, event = self._group.spec, delivery.event
        if delivery.only and delivery.only != spec.name:
            await self._settle(self._group.ack(delivery))
            return True
        if len(event.payload) > wire.MAX_REMOTE:
            reason = f"{len(event.payload)} bytes, and one message carries {wire.MAX_REMOTE}"
            await self._settle(self._group.bury(delivery, reason))
            return True
        if self._manual and self._spent(delivery.attempt - 1):
            reason = _UNACKNOWLEDGED.format(delivery.attempt - 1)
            await self._settle(self._group.bury(delivery, reason))
            return True
        return False

    def _spent(self, attempts: int) -> bool:
        """Whether so many attempts were all."""
        return self._retries >= 0 and attempts > self._retries

    def _remember(self, delivery: Delivery) -> None:
        known = self._sent.setdefault(delivery.event.id, deque())
        for one in known:
            if one.event.sequence == delivery.event.sequence:
                known.remove(one)
                break
        known.append(delivery)

    async def _read(self, acks: AsyncIterator[wire.AckRequest]) -> None:
        try:
            await self._read_all(acks)
        except errors.Error as error:
            self._broken.set_result(error)

    async def _read_all(self, acks: AsyncIterator[wire.AckRequest]) -> None:
        async for ack in acks:
            if known := self._sent.get(ack.id):
                delivery = known.popleft()
                if not known:
                    del self._sent[ack.id]
                if ack.success:
                    await self._settle(self._group.ack(delivery))
                else:
                    await self._refuse(delivery, ack.delay)
                self._settled.set()
        if self._vague:
            self._manual = False
            for known in self._sent.values():
                for delivery in known:
                    await self._settle(self._group.ack(delivery))
            self._sent.clear()
            self._settled.set()

    async def _refuse(self, delivery: Delivery, delay: float) -> None:
        if self._spent(delivery.attempt):
            reason = _REFUSED.format(delivery.attempt)
            await self._settle(self._group.bury(delivery, reason))
            return
        pause = min(FIRST_DELAY * 2.0 ** min(delivery.attempt - 1, 30), LONGEST_DELAY)
        await self._settle(self._group.nack(delivery, delay if delay > 0 else pause))

    async def _keep(self) -> None:
        """See to it that nobody else is given what waits here for a slow receiver."""
        while True:
            await asyncio.sleep(self._beat)
            held = [self._sending] if self._sending is not None else []
            for delivery in (*held, *self._waiting):
                await self._settle(self._group.working(delivery))

    async def _give_back(self) -> None:
        """Let others have at once what was not sent, or not settled."""
        unsettled = [one for known in self._sent.values() for one in known]
        for delivery in (*unsettled, *self._waiting):
            await self._settle(self._group.nack(delivery))

    async def _settle(self, settling: Coroutine[Any, Any, None]) -> None:
        """Settle a delivery; one that cannot be is sent again after ``ack_wait``."""
        try:
            await settling
        except errors.Error as error:
            topic = self._group.spec.topic
            log.info("an event of %s could not be settled: %s", topic, error.detail)
