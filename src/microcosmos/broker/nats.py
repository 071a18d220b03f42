"""The broker over core NATS.

A message of the topic ``users.created`` is published as ``broker.users.created``; its headers are
NATS headers. One more, ``Micro-Report``, has an address of its publisher's: on the subject
``broker.$.ADDRESS``, which no topic can be, subscribers tell that they failed, as JSON. (A reply
subject would do, but that NATS answers on it whenever nobody listens.) Publishers and subscribers
that know nothing of this are as good as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import re
from collections.abc import Mapping

import msgspec
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from microcosmos.base import codec, errors, topics
from microcosmos.base.context import TRACE
from microcosmos.rpc.nats import settle

from .failures import Failure, Failures, plain
from .headers import check_queue, checked, received, too_large
from .interface import FailureSink, Message, Reports, Sink, Subscription

log = logging.getLogger("microcosmos.broker")

PREFIX = "broker."
"""Of the subjects that messages have."""

REPORTS = f"{PREFIX}$."
"""Of the subjects that failures are told by."""

REPORT = "Micro-Report"
"""The header with the address that failures are told to."""

# Of nobody else's choosing: what has this form is a subject that only publishers hear.
_ADDRESS = re.compile(r"[A-Za-z0-9]{1,40}\.[0-9]{1,15}", re.ASCII)
MAX_PENDING = 64 * 1024
"""Messages of one subscription that wait to be handed on; further ones are dropped."""

_REFUSED = re.compile(r'(?i)permissions violation for subscription to "broker\.([^"]+)"')
_LARGE = 32 * 1024
_TURN = 1000
_SKIP = len(PREFIX)
_failure = msgspec.json.Decoder(Failure)


class NatsBroker:
    """See `interface.Broker`.

    However many subscribers of this process listen to a pattern, NATS sends each message here
    once; members of queues have a subscription each, so that NATS gives each its share.

    Args:
        nc: a connection made by `rpc.nats.connect`; who made it closes it, after this.
    """

    def __init__(self, nc: NatsClient) -> None:
        self.failures = Failures()
        self._nc = nc
        self._name = nc._nuid.next().decode()
        self._own = f"{self._name}.0"
        self._addresses: dict[str, FailureSink] = {self._own: self.failures.report}
        self._numbers = itertools.count(1)
        self._told: NatsSubscription | None = None
        self._listening: asyncio.Task[NatsSubscription] | None = None
        self._heard: dict[str, _Heard] = {}
        self._refused: set[str] = set()
        self._closed = False
        self._when_failed, nc._error_cb = nc._error_cb, self._failed

    async def publish(
        self,
        topic: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        report: str = "",
    ) -> None:
        sent = checked(topic, body, headers)
        if self._told is None:
            await self._listen()
        sent[REPORT] = _address(report) if report else self._own
        if len(body) > _LARGE:
            self._check_payload(body, sent)
        try:
            await self._nc.publish(PREFIX + topic, body, "", sent)
        except nats.errors.MaxPayloadError:
            raise too_large(len(body), self._nc.max_payload) from None
        except (nats.errors.Error, OSError) as exc:
            raise _unavailable("publish", exc) from None

    def _check_payload(self, body: bytes, headers: dict[str, str]) -> None:
        """Refuse what NATS would close the connection for: its limit counts the headers too."""
        size = len(body) + sum(len(k) + 4 * len(v) + 4 for k, v in headers.items()) + 16
        if size > self._nc.max_payload:
            raise too_large(size, self._nc.max_payload)

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        topics.check_pattern(pattern)
        check_queue(queue)
        if self._closed:
            raise errors.Unavailable("broker", "the broker is closed")
        if queue:
            heard = _Heard(self._nc, pattern, queue)
        elif (shared := self._heard.get(pattern)) is not None:
            heard = shared
        else:
            heard = self._heard[pattern] = _Heard(self._nc, pattern, "")
        member = _Member(self, heard, sink)
        heard.members.append(member)
        try:
            await heard.open()
            if pattern.lower() in self._refused:
                detail = f"the credentials for NATS do not allow to listen on {PREFIX}{pattern}"
                raise errors.Forbidden("broker", detail)
        except BaseException:
            await member.close()
            raise
        return member

    async def report(self, message: Message, subscriber: str, reason: str) -> None:
        if not _ADDRESS.fullmatch(message.report):
            return
        trace = message.headers.get(TRACE, "")
        failure = Failure(message.topic, subscriber, plain(reason), trace)
        try:
            await self._nc.publish(REPORTS + message.report, codec.encode(failure))
        except (nats.errors.Error, OSError) as exc:
            raise _unavailable("report a failure", exc) from None

    async def reports(self, sink: FailureSink) -> Reports:
        address = f"{self._name}.{next(self._numbers)}"
        self._addresses[address] = sink
        await self._listen()
        return _Address(self, address)

    async def _listen(self) -> None:
        """Hear what failed; NATS knows of it before it gets any message that is published later."""
        if self._listening is None:
            hearing = self._nc.subscribe(f"{REPORTS}{self._name}.*", cb=self._reported)
            # What is reported has nothing of the circumstances of whoever publishes first.
            self._listening = asyncio.create_task(hearing, context=contextvars.Context())
        try:
            self._told = await asyncio.shield(self._listening)
        except (nats.errors.Error, OSError) as exc:
            self._listening = None
            raise _unavailable("publish", exc) from None

    async def _reported(self, msg: Msg) -> None:
        tell = self._addresses.get(msg.subject[len(REPORTS) :])
        if tell is not None:
            with contextlib.suppress(*codec.DECODE_ERRORS):
                tell(_failure.decode(msg.data))

    async def _failed(self, exc: Exception) -> None:
        """An error of the connection; that we are too slow is said once, not for every message."""
        topic = getattr(exc, "subject", "")
        if isinstance(exc, nats.errors.SlowConsumerError) and topic.startswith(PREFIX):
            self.failures.drop(topic[_SKIP:], "this process", MAX_PENDING)
            return
        if refused := _REFUSED.search(str(exc)):
            self._refused.add(refused[1].lower())
        await self._when_failed(exc)

    async def close(self) -> None:
        self._closed = True
        for heard in [*self._heard.values()]:
            await heard.close()
        self._heard.clear()
        if self._told is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._told.unsubscribe()
        self.failures.close()

    async def _left(self, member: _Member) -> None:
        heard = member.heard
        if member not in heard.members:
            return
        if len(heard.members) > 1:
            heard.members.remove(member)
            return
        # Its last one: who comes now gets a subscription of its own.
        if self._heard.get(heard.pattern) is heard:
            del self._heard[heard.pattern]
        await heard.close()
        if member in heard.members:
            heard.members.remove(member)


class _Heard:
    """A subscription of NATS and those of this process that it is for."""

    def __init__(self, nc: NatsClient, pattern: str, queue: str) -> None:
        self.pattern = pattern
        self.members: list[_Member] = []
        self._queue = queue
        self._nc = nc
        self._subscription: NatsSubscription | None = None
        self._opening: asyncio.Task[None] | None = None
        self._given = 0

    async def open(self) -> None:
        """Return once NATS knows of it, however many wait for that."""
        if self._opening is None:
            # Nor has what comes of whoever listens first.
            self._opening = asyncio.create_task(self._subscribe(), context=contextvars.Context())
        try:
            await asyncio.shield(self._opening)
        except (nats.errors.Error, OSError) as exc:
            raise _unavailable("subscribe", exc) from None

    async def _subscribe(self) -> None:
        self._subscription = await self._nc.subscribe(
            PREFIX + self.pattern, self._queue, self._received, pending_msgs_limit=MAX_PENDING
        )
        await settle(self._nc)

    async def _received(self, msg: Msg) -> None:
        if msg.subject.startswith(REPORTS):
            return
        raw = msg.headers or {}
        report = raw.get(REPORT, "")
        message = Message(msg.subject[_SKIP:], msg.data, received(raw), report)
        members = self.members
        for member in members if len(members) < 2 else [*members]:
            member.sink(message)
        self._given += len(members)
        if self._given >= _TURN:
            # A burst is taken in at once otherwise, and nothing else has its turn meanwhile.
            self._given = 0
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Hear no more; what NATS has sent here already is handed on first."""
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._opening is not None:
                await asyncio.shield(self._opening)
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._nc.is_connected:
                # `drain` of nats-py, but for its `flush`: see `settle`.
                await self._nc._send_unsubscribe(subscription._id)
                await settle(self._nc)
                await subscription._pending_queue.join()
            await subscription.unsubscribe()


class _Member:
    def __init__(self, broker: NatsBroker, heard: _Heard, sink: Sink) -> None:
        self._broker = broker
        self.heard = heard
        self.sink = sink

    async def close(self) -> None:
        await self._broker._left(self)


class _Address:
    def __init__(self, broker: NatsBroker, address: str) -> None:
        self._broker = broker
        self.address = address

    async def close(self) -> None:
        self._broker._addresses.pop(self.address, None)


def _address(text: str) -> str:
    """An address of `reports`, and nothing else: it becomes a part of a subject.

    Raises:
        errors.BadRequest: it is none.
    """
    if not _ADDRESS.fullmatch(text):
        raise errors.BadRequest("broker", f"{text!r:.80} is no address for reports")
    return text


def _unavailable(what: str, exc: Exception) -> errors.Unavailable:
    reason = str(exc) or type(exc).__name__
    return errors.Unavailable("broker", f"cannot {what} by NATS: {reason}; try again")
