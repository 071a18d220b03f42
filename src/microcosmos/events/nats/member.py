"""Member: pulls the events of a group from the engine and tells what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from microcosmos.base import errors
from microcosmos.events.checks import check_delay, one_line
from microcosmos.events.interface import Delivery, GroupSpec, Start
from microcosmos.rpc.connection import settle

from .api import BATCH_BYTES, request, unavailable
from .layout import GROUP, NANOSECONDS, STREAM, event_of, topic_of
from .letters import letter
from .link import Link
from .publisher import Publisher

log = logging.getLogger("microcosmos.events")

BEAT = 5.0
"""Seconds between signs of life of the engine while a member waits for events."""

POLL = 60.0
"""Seconds after which a member that waits for events asks for them anew."""

LINGER = 0.05
"""Seconds that a member that does not pull again is among those that events may be given to."""

GLANCE = 0.02
"""Seconds that a member looks for events that are there before it waits for the next one."""

AWAY = 30.0
"""Seconds that a member waits for an engine that cannot be reached before it says so."""

_PAUSE = 0.1

Joining = Callable[[GroupSpec], Awaitable[list[str]]]
Existing = Callable[[GroupSpec], Awaitable[bool]]


class _Request:
    """Events that were asked for and have not come yet."""

    __slots__ = ("heard", "left", "number")

    def __init__(self, number: int, left: int) -> None:
        self.number = number
        self.left = left
        self.heard = time.monotonic()


class _Ear:
    """Where events come to, and what was asked for from there, by the place of the consumer.

    The engine forgets what was asked for once nobody listens there.

    Attributes:
        since: when it was made, by the monotonic clock.
    """

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.requests: dict[int, _Request] = {}
        self.subscription: Subscription | None = None
        self.since = time.monotonic()


class Member:
    """See `interface.Group`.

    It asks the engine for as many events as can be pulled, first for those that are there and then
    for the next one, and for no more: what it does not work on, others can.

    Args:
        link: the connection.
        publisher: puts away dead letters.
        spec: the group.
        names: of its consumers.
        join: makes the consumers of a group that nobody shares anew.
        exists: whether there is the group still.
    """

    def __init__(
        self,
        link: Link,
        publisher: Publisher,
        spec: GroupSpec,
        names: list[str],
        join: Joining,
        exists: Existing,
    ) -> None:
        self._link = link
        self._nc = link.nc
        self._publisher = publisher
        self._spec = spec
        self._names = names
        self._join = join
        self._exists = exists
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._ear = _Ear(self._nc.new_inbox() + ".")
        self._buffer: deque[Msg] = deque()
        self._pulling = False
        self._waiting: asyncio.Future[None] | None = None
        self._turn = 0
        self._held: set[int] = set()
        self._error: errors.Error | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._finding: asyncio.Task[None] | None = None
        self._woken = 0.0
        self._beats: asyncio.Task[None] | None = None
        # Of a group that nobody shares, the engine may forget how far it is.
        self._open: set[int] | None = None if spec.name else set()
        self._last = 0

    @property
    def names(self) -> list[str]:
        """Of its consumers, as they are now."""
        return self._names

    @property
    def spec(self) -> GroupSpec:
        """See `interface.Group.spec`."""
        return self._spec

    async def open(self) -> None:
        """Begin to notice how the engine is.

        Raises:
            errors.Unavailable: the connection is closed.
        """
        if self._nc.is_closed:
            self._link.check()
        self._link.add(self)
        self._beats = asyncio.create_task(self._beat(), name="member of a group")

    async def close(self) -> None:
        """Give back what it has and was not pulled."""
        self._link.remove(self)
        for task in (self._beats, self._finding):
            if task is not None:
                task.cancel()
        await self._retire()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Pulling.

    async def pull(self, limit: int) -> Sequence[Delivery]:
        """See `interface.Group.pull`."""
        if limit < 1:
            raise errors.BadRequest("events", f"limit is at least 1, not {limit}")
        if self._pulling:
            raise errors.Conflict("events", "a member pulls once at a time")
        if self._lingering is not None:
            self._lingering.cancel()
        self._pulling = True
        buffer = self._buffer
        try:
            while not buffer:
                await self._find_some(limit)
        except BaseException:
            self._pulling = False
            await self._retire()
            raise
        self._pulling = False
        taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
        # As many may still come as can be taken; more would wait here, and not for others.
        if len(buffer) + len(self._ear.requests) > limit - len(taken):
            await self._retire()
        elif self._ear.requests:
            self._lingering = self._loop.call_later(LINGER, self._stop)
        return [self._delivery(msg) for msg in taken]

    async def _find_some(self, limit: int) -> None:
        """Take what is there; else wait until something is, or something has changed."""
        if self._error is not None:
            raise self._error
        if not self._nc.is_connected:
            if self._nc.is_closed or not await self._wait(AWAY):
                self._link.check()
            return
        places = self._unasked()
        if not self._spec.ordered or limit < len(places):
            await self._grab(places, limit)
        if not self._buffer:
            for place in self._unasked():
                await self._ask(place, 1, wait=True)
            if not self._buffer and self._nc.is_connected:
                await self._wait()

    def _unasked(self) -> list[int]:
        """The places of consumers that nothing is asked of, each time another one first.

        Of one that was asked for its next event there is none just now.
        """
        self._turn = (self._turn + 1) % len(self._names)
        places = range(len(self._names))
        turned = (*places[self._turn :], *places[: self._turn])
        return [place for place in turned if place not in self._ear.requests]

    async def _grab(self, places: list[int], limit: int) -> None:
        """Take events that are there already, at most so many."""
        if self._spec.ordered:
            # There is one at most at a time, and none where the last one is still in our hands.
            places = [place for place in places if place not in self._held]
        at_once = limit if self._spec.ordered else 1
        while places and not self._buffer and self._nc.is_connected and self._error is None:
            asked, places = places[:at_once], places[at_once:]
            for place in asked:
                await self._ask(place, 1 if self._spec.ordered else limit)
            until = self._loop.time() + GLANCE
            while any(place in self._ear.requests for place in asked):
                # There is no answer while others have as many events as can be given out.
                if not await self._wait(max(0.0, until - self._loop.time())):
                    for place in asked:
                        self._ear.requests.pop(place, None)

    async def _ask(self, place: int, number: int, *, wait: bool = False) -> None:
        ear = self._ear
        body: dict[str, object] = {"batch": number, "max_bytes": BATCH_BYTES}
        if wait:
            body |= {
                "expires": int(POLL * NANOSECONDS),
                "idle_heartbeat": int(BEAT * NANOSECONDS),
            }
        else:
            body["no_wait"] = True
        asked = ear.requests[place] = _Request(next(self._numbers), number)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._names[place]}"
        reply = f"{ear.inbox}{place}.{asked.number}"
        try:
            if ear.subscription is None:
                ear.subscription = await self._nc.subscribe(
                    f"{ear.inbox}*.*", cb=partial(self._received, ear)
                )
            await self._nc.publish(subject, msgspec.json.encode(body), reply)
        except (nats.errors.Error, OSError):
            # Asked again once the connection is back.
            ear.requests.pop(place, None)

    async def _wait(self, seconds: float | None = None) -> bool:
        """Wait until something has happened; False when nothing has, in so many seconds."""
        self._waiting = self._loop.create_future()
        try:
            if seconds is None:
                await self._waiting
                return True
            done, _ = await asyncio.wait((self._waiting,), timeout=seconds)
            return bool(done)
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _received(self, ear: _Ear, msg: Msg) -> None:
        reply = msg.reply
        if not reply.startswith("$JS.ACK."):
            self._told(ear, msg)
            return
        if ear.since < self._woken:
            return
        self._buffer.append(msg)
        place = 0 if len(self._names) == 1 else self._place(reply)
        asked = ear.requests.get(place)
        if asked is not None:
            asked.left -= 1
            if asked.left > 0:
                return
            del ear.requests[place]
        self._wake()

    def _place(self, reply: str) -> int:
        parts = reply.split(".")
        name = parts[_first(parts) - 1]
        return self._names.index(name) if name in self._names else -1

    def _told(self, ear: _Ear, msg: Msg) -> None:
        """What the engine says instead of an event."""
        where, _, number = msg.subject[len(ear.inbox) :].partition(".")
        asked = ear.requests.get(int(where))
        if asked is None or asked.number != int(number):
            return
        headers = msg.headers or {}
        status = headers.get("Status")
        if status == "100":
            asked.heard = time.monotonic()
            return
        del ear.requests[int(where)]
        if status == "503" or (status == "409" and "Deleted" in headers.get("Description", "")):
            self._find()
        else:
            self._wake()

    # Pulling no more.

    def _stop(self) -> None:
        """It was not pulled again: let others have the next events."""
        if not self._pulling:
            # At once: who pulls before the task begins asks by the next ear.
            self._spawn(self._leave(self._turned()))

    async def _retire(self) -> None:
        """Ask for nothing any more, and give back what was not pulled."""
        await self._leave(self._turned())

    def _turned(self) -> _Ear:
        """The ear that was listened with; from now on it is another one."""
        if self._lingering is not None:
            self._lingering.cancel()
        ear, self._ear = self._ear, _Ear(self._nc.new_inbox() + ".")
        return ear

    async def _leave(self, ear: _Ear) -> None:
        if ear.subscription is None:
            return
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._nc.is_connected:
                # At once, so that whatever is sent after this finds nobody listening there.
                await self._nc._send_unsubscribe(ear.subscription._id)
        self._spawn(self._empty(ear.subscription))

    async def _empty(self, subscription: Subscription) -> None:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if self._nc.is_connected:
                # `drain` of nats-py, but for its `flush`: see `settle`.
                await settle(self._nc)
                await subscription._pending_queue.join()
            await subscription.unsubscribe()
            while self._buffer and not self._pulling and self._nc.is_connected:
                await self._nc.publish(self._buffer.popleft().reply, b"-NAK")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name="member of a group")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What goes wrong.

    def broken(self) -> None:
        """See `link.Listener`."""
        self._ear.requests.clear()
        # What was given to this member is given out again, in its time, by whoever answers next.
        self._wake()

    def restored(self) -> None:
        """See `link.Listener`."""
        self._wake()

    async def _beat(self) -> None:
        """Notice requests that nothing is heard of any more, and that this process was stopped."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(min(BEAT, self._spec.ack_wait / 3))
            now = time.monotonic()
            stopped = bool(self._spec.name) and now - before >= self._spec.ack_wait
            if stopped:
                # What has come meanwhile was given to others, who may be far ahead by now. What
                # still comes by these ears is no younger.
                self._woken = now
                self._buffer.clear()
            late = now - 2.5 * BEAT
            if stopped or any(asked.heard < late for asked in self._ear.requests.values()):
                await self._retire()
                self._wake()

    def _find(self) -> None:
        """A consumer is not there: see what has become of it."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._found(), name="member of a group")

    async def _found(self) -> None:
        while self._error is None:
            await asyncio.sleep(_PAUSE)
            try:
                if not self._spec.name:
                    self._names = await self._join(self._onwards())
                    self._ear.requests.clear()
                elif not await self._exists(self._spec):
                    self._error = errors.NotFound(
                        "events", f"group {self._spec.name} of {self._spec.topic} was deleted"
                    )
                break
            except errors.Unavailable:
                continue
            except errors.Error as error:
                self._error = error
        self._wake()

    def _onwards(self) -> GroupSpec:
        """Where a group that nobody shares goes on."""
        if not self._last:
            return self._spec
        assert self._open is not None
        first = min(self._open, default=self._last + 1)
        return msgspec.structs.replace(self._spec, start=Start(sequence=first))

    # Deliveries.

    def _delivery(self, msg: Msg) -> Delivery:
        parts = msg.reply.split(".")
        first = _first(parts)
        sequence = int(parts[first + 1])
        stored = int(parts[first + 3]) / NANOSECONDS
        headers = msg.headers
        if self._open is not None:
            self._open.add(sequence)
            self._last = max(self._last, sequence)
        if self._spec.ordered:
            self._held.add(self._place(msg.reply))
        return Delivery(
            event_of(topic_of(msg.subject), msg.data, headers, sequence, stored),
            int(parts[first]),
            msg.reply,
            headers.get(GROUP, "") if headers else "",
        )

    async def ack(self, delivery: Delivery) -> None:
        """See `interface.Group.ack`."""
        await self._tell(delivery, b"+ACK")
        self._closed(delivery)

    async def ack_sync(self, delivery: Delivery) -> None:
        """See `interface.Group.ack_sync`."""
        await request(self._nc, delivery.token, b"+ACK")
        self._closed(delivery)

    async def nack(self, delivery: Delivery, delay: float = 0) -> None:
        """See `interface.Group.nack`."""
        check_delay(delay)
        word = b"-NAK"
        if delay:
            word += b" " + msgspec.json.encode({"delay": int(delay * NANOSECONDS)})
        await self._tell(delivery, word)
        self._let_go(delivery)

    async def working(self, delivery: Delivery) -> None:
        """See `interface.Group.working`."""
        await self._tell(delivery, b"+WPI")

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """See `interface.Group.bury`."""
        subject, payload, headers = letter(self._spec, delivery, one_line(reason))
        await self._publisher.store(subject, payload, headers)
        await self.ack_sync(delivery)

    async def _tell(self, delivery: Delivery, word: bytes) -> None:
        self._link.check()
        try:
            await self._nc.publish(delivery.token, word)
        except (nats.errors.Error, OSError) as exc:
            raise unavailable(exc) from None

    def _let_go(self, delivery: Delivery) -> None:
        if self._spec.ordered:
            self._held.discard(self._place(delivery.token))

    def _closed(self, delivery: Delivery) -> None:
        self._let_go(delivery)
        if self._open is not None:
            self._open.discard(delivery.event.sequence)


def _first(parts: list[str]) -> int:
    """Where the numbers begin in the subject by which an event is acknowledged.

    ``$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<number>.<time>.<left>``; a newer form has
    the domain and the account before the stream, and one part more at the end.
    """
    return 4 if len(parts) == 9 else 6
