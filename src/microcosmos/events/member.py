"""Member: the far end of a member of a group that works by rpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.base.tasks import background

from . import wire
from .interface import Delivery, Group

ANSWERS = 64
"""Answers that are ready before they are read; while there are as many, nothing more is asked."""


class Member:
    """Does with a group what is asked on a stream.

    What was given and not settled is given to others when the stream ends.

    Args:
        group: of the log.
        authorise: raises once the member may have its events no more.
    """

    def __init__(self, group: Group, authorise: Callable[[], None]) -> None:
        self._group = group
        self._authorise = authorise
        # By a token of our own; what is given again gets one more.
        self._given: dict[str, Delivery] = {}
        self._tokens: dict[int, list[str]] = {}
        self._number = 0
        self._failure: errors.Error | None = None
        self._answers: asyncio.Queue[wire.Reply | None] = asyncio.Queue(ANSWERS)
        self._pulling: asyncio.Task[None] | None = None
        # The number of the pull that waits for events.
        self._waits = 0

    async def replies(self, asks: AsyncIterator[wire.Ask]) -> AsyncGenerator[wire.Reply, None]:
        """The answers to what is asked, until nothing more is.

        Raises:
            errors.Error: what was asked cannot be read.
        """
        try:
            async with background(self._listen(asks), "member of a group"):
                while (reply := await self._answers.get()) is not None:
                    yield reply
            if self._failure is not None:
                raise self._failure
        finally:
            await self._leave()

    async def _listen(self, asks: AsyncIterator[wire.Ask]) -> None:
        try:
            async for ask in asks:
                await self._do(ask)
        except errors.Error as error:
            self._failure = error
        await self._stop_pulling()
        await self._answers.put(None)

    async def _do(self, ask: wire.Ask) -> None:
        if ask.do == "pull":
            if self._pulling is not None and not self._pulling.done():
                await self._answer(ask.number, _refuse("one pull at a time"))
            else:
                self._waits = ask.number
                self._pulling = asyncio.create_task(self._pull(ask), name="pull")
            return
        if ask.do == "stop":
            if number := self._waits:
                await self._stop_pulling()
                await self._answers.put(wire.Reply(number=number))
            return
        delivery = self._given.get(ask.token)
        if ask.do in ("sync", "bury"):
            await self._answer(ask.number, self._settle(ask, delivery))
        elif delivery is not None:
            # Lost ones are given out again, which is all that there is to be done about them.
            await _quietly(self._settle(ask, delivery))

    async def _settle(self, ask: wire.Ask, delivery: Delivery | None) -> None:
        if delivery is None:
            if ask.do == "bury":
                raise errors.NotFound("events", "this event is not in your hands")
            return  # it was acknowledged already
        if ask.do == "working":
            await self._group.working(delivery)
            return
        if ask.do == "sync":
            await self._group.ack_sync(delivery)
        elif ask.do == "bury":
            await self._group.bury(delivery, ask.reason)
        elif ask.do == "nack":
            await self._group.nack(delivery, ask.delay)
            self._given.pop(ask.token, None)
            return
        else:
            await self._group.ack(delivery)
        for token in self._tokens.pop(delivery.event.sequence, ()):
            self._given.pop(token, None)

    async def _answer(self, number: int, doing: Coroutine[Any, Any, None]) -> None:
        reply = wire.Reply(number=number)
        try:
            await doing
        except errors.Error as error:
            reply = wire.Reply(number=number, error=error.to_wire())
        await self._answers.put(reply)

    async def _pull(self, ask: wire.Ask) -> None:
        try:
            try:
                found = await self._group.pull(max(1, min(ask.limit, wire.MAX_PULL)))
            finally:
                self._waits = 0
            given = [self._remember(one) for one in found]
            self._authorise()
        except errors.Error as error:
            await self._answers.put(wire.Reply(number=ask.number, error=error.to_wire()))
            return
        for reply in _portions(ask.number, given):
            await self._answers.put(reply)

    def _remember(self, delivery: Delivery) -> Delivery:
        """Remember what is given to the member; it knows it by another token."""
        self._number += 1
        token = str(self._number)
        self._given[token] = delivery
        self._tokens.setdefault(delivery.event.sequence, []).append(token)
        return msgspec.structs.replace(delivery, token=token)

    async def _stop_pulling(self) -> None:
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.wait([self._pulling])

    async def _leave(self) -> None:
        await self._stop_pulling()
        for delivery in self._given.values():
            await _quietly(self._group.nack(delivery))


def _portions(number: int, found: Sequence[Delivery]) -> Iterator[wire.Reply]:
    """What was pulled, in replies that are not much larger than a piece."""
    portion: list[Delivery] = []
    size = 0
    for delivery in found:
        if portion and size + len(delivery.event.payload) > wire.PIECE // 2:
            yield wire.Reply(number=number, deliveries=portion, more=True)
            portion, size = [], 0
        portion.append(delivery)
        size += len(delivery.event.payload)
    yield wire.Reply(number=number, deliveries=portion)


async def _refuse(detail: str) -> None:
    raise errors.Conflict("events", detail)


async def _quietly(doing: Coroutine[Any, Any, None]) -> None:
    try:
        await doing
    except errors.Error:
        return
