"""What a worker asks of the host on its line: sub-requests, bindings, and to take its notes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from microcosmos.base import codec, context, errors
from microcosmos.base.context import TRACE, Metadata, Unasked
from microcosmos.functions import wire
from microcosmos.functions.egress.client import Egress
from microcosmos.functions.interface import Unit
from microcosmos.rpc.frames import CANCEL, ERROR, OPEN, REPLY, REQUEST

from .bindings import MAX_ARGUMENTS
from .relay import Relay

log = logging.getLogger("microcosmos.functions")

AT_ONCE = 4096
"""What one worker asks at once; more is refused."""

Send = Callable[[int, int, bytes], None]
"""Sends a frame's kind, stream and payload to the worker."""


class Slots(Protocol):
    """What a worker has loaded."""

    def name(self, slot: int) -> tuple[str, str] | None:
        """Namespace and name of the function of a slot, also of one that was dropped already."""

    def number(self, slot: int) -> int:
        """The number of the version of a slot, also of one that was dropped already; else 0."""

    async def unit(self, slot: int) -> Unit:
        """The unit of a slot.

        Raises:
            errors.NotFound: there is none (any more).
        """


class Offers(Protocol):
    """What functions may ask for."""

    @property
    def egress(self) -> Egress:
        """Does their sub-requests."""

    async def use(self, unit: Unit, use: wire.Use) -> bytes:
        """Use a binding for a function; gives JSON."""

    async def note(self, worker: str, slots: Slots, notes: wire.Notes) -> None:
        """Take what a worker has to tell; returns when that is safe."""

    def forget(self, worker: str) -> None:
        """A worker has gone."""

    def tell(self, unit: Unit, level: str, text: str, trace: str) -> None:
        """Write a line into the log of a function."""


class Asked:
    """Answers what one worker asks.

    Args:
        send: to the worker.
        slots: what it has loaded.
        worker: tells it from all others, for ever.
        offers: what is offered.
    """

    def __init__(self, send: Send, slots: Slots, worker: str, offers: Offers) -> None:
        self._send = send
        self._slots = slots
        self._worker = worker
        self._offers = offers
        self._exchanges: dict[int, _Exchange | Relay] = {}

    def received(self, kind: int, stream: int, payload: bytes) -> None:
        """Take in a frame of a stream that the worker has begun."""
        if kind in (REQUEST, OPEN):
            self._begin(kind, stream, payload)
        elif exchange := self._exchanges.get(stream):
            exchange.received(kind, payload)

    def lost(self) -> None:
        """The line is gone: nobody waits for answers."""
        self._offers.forget(self._worker)
        for exchange in [*self._exchanges.values()]:
            exchange.received(CANCEL, b"")

    @property
    def busy(self) -> int:
        """How much is being answered."""
        return len(self._exchanges)

    def _begin(self, kind: int, stream: int, payload: bytes) -> None:
        try:
            if len(self._exchanges) >= AT_ONCE:
                raise errors.TooManyRequests(
                    "functions.limit.fetches", f"a worker asks for over {AT_ONCE} things at once"
                )
            slot, head, body = wire.unpack_request(payload)
            word = head.decode("utf-8", "replace")
            if word == wire.FETCH:
                self._relay(kind, stream, slot, body)
                return
            answer = self._answers().get(word)
            if answer is None or kind == OPEN:
                raise errors.BadRequest("functions", f"the host does no {word!r:.40}")
        except errors.Error as error:
            self._send(ERROR, stream, error.to_wire())
            return
        except ValueError as exc:
            self._send(ERROR, stream, errors.BadRequest("functions", str(exc)).to_wire())
            return
        exchange = _Exchange(partial(self._send_on, stream))
        self._exchanges[stream] = exchange
        exchange.run(self._answer(exchange, answer(slot, body, exchange)))
        exchange.when_over(lambda: self._exchanges.pop(stream, None))

    def _relay(self, kind: int, stream: int, slot: int, fetch: bytes) -> None:
        """Have the egress do a sub-request: what it may is said here, not by the worker."""
        relay = Relay(
            self._offers.egress,
            partial(self._send_on, stream),
            lambda: self._exchanges.pop(stream, None),
            lambda unit, text, trace: self._offers.tell(unit, "warn", text, trace),
        )
        self._exchanges[stream] = relay
        relay.begin(kind, self._slots.unit(slot), fetch)

    def _answers(self) -> dict[str, Callable[[int, bytes, _Exchange], Awaitable[None]]]:
        return {wire.CALL: self._call, wire.NOTES: self._notes}

    def _send_on(self, stream: int, kind: int, payload: bytes) -> None:
        self._send(kind, stream, payload)

    async def _answer(self, exchange: _Exchange, answering: Awaitable[None]) -> None:
        try:
            await answering
        except errors.Error as error:
            exchange.say(ERROR, error.to_wire())
        except Exception as exc:
            # What it was is nothing for functions: they are somebody else's.
            log.exception("what a worker asked for failed")
            failure = errors.InternalServerError("functions", type(exc).__name__)
            exchange.say(ERROR, failure.to_wire())

    async def _call(self, slot: int, body: bytes, exchange: _Exchange) -> None:
        if len(body) > MAX_ARGUMENTS:
            detail = f"{len(body)} bytes for one use of a binding are over {MAX_ARGUMENTS}"
            raise errors.TooLarge("functions", detail)
        use: wire.Use = codec.decode(body, wire.Use, id="functions")
        unit = await self._slots.unit(slot)
        metadata = Metadata({TRACE: use.trace} if use.trace else {})
        until = time.monotonic() + unit.limits.wall
        context.set_current(Unasked(metadata, until))
        answer = await self._offers.use(unit, use)
        exchange.say(REPLY, wire.pack_reply(200, wire.JSON, b"", answer))

    async def _notes(self, slot: int, body: bytes, exchange: _Exchange) -> None:
        notes: wire.Notes = codec.decode(body, wire.Notes, id="functions")
        await self._offers.note(self._worker, self._slots, notes)
        exchange.say(REPLY, wire.pack_reply(200, wire.JSON, b"", b"null"))


Asking = Callable[[Send, Slots, str], Asked]
"""Makes what answers a worker, once for each of its lines: see `Asked`."""


class _Exchange:
    """One thing that was asked for, and is answered here.

    Attributes:
        say: sends to who asked.
    """

    def __init__(self, say: Callable[[int, bytes], None]) -> None:
        self.say = say
        self._task: asyncio.Task[None] | None = None

    def run(self, work: Any) -> None:
        """Answer it."""
        self._task = asyncio.create_task(work, name="asked by a worker")

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call back once it was answered, or is not to be any more."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: callback())

    def received(self, kind: int, payload: bytes) -> None:
        """Take in a frame that belongs to it."""
        if kind == CANCEL and self._task is not None:
            self._task.cancel()


def unknown(slot: int) -> errors.NotFound:
    """The error of a slot that the host knows nothing of."""
    return errors.NotFound("functions", f"nothing is loaded in slot {slot}")


__all__ = ["AT_ONCE", "Asked", "Asking", "Offers", "Send", "Slots", "unknown"]
