"""The broker in memory: messages inside one process, with the manners of the real one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping

from microcosmos.base import errors, topics
from microcosmos.base.context import TRACE

from .failures import Failure, Failures, plain
from .headers import check_queue, checked
from .interface import FailureSink, Message, Reports, Sink, Subscription


class MemoryBroker:
    """See `interface.Broker`."""

    def __init__(self) -> None:
        self.failures = Failures()
        self._groups: dict[tuple[str, str], _Group] = {}
        self._addresses: dict[str, FailureSink] = {"0": self.failures.report}
        self._numbers = itertools.count(1)
        self._closed = False

    async def publish(
        self,
        topic: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        report: str = "",
    ) -> None:
        sent = checked(topic, body, headers)
        if self._closed:
            raise errors.Unavailable("broker", "the broker is closed")
        message = Message(topic, body, sent, report or "0")
        for group in [*self._groups.values()]:
            if topics.matches(group.pattern, topic):
                group.give(message)

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        topics.check_pattern(pattern)
        check_queue(queue)
        if self._closed:
            raise errors.Unavailable("broker", "the broker is closed")
        group = self._groups.setdefault((pattern, queue), _Group(pattern, queue))
        member = _Member(self, group, sink)
        group.members.append(member)
        return member

    async def report(self, message: Message, subscriber: str, reason: str) -> None:
        if tell := self._addresses.get(message.report):
            trace = message.headers.get(TRACE, "")
            tell(Failure(message.topic, subscriber, plain(reason), trace))

    async def reports(self, sink: FailureSink) -> Reports:
        address = str(next(self._numbers))
        self._addresses[address] = sink
        return _Address(self, address)

    async def close(self) -> None:
        self._closed = True
        self._groups.clear()
        self.failures.close()

    def _left(self, member: _Member) -> None:
        group = member.group
        if member in group.members:
            group.members.remove(member)
            if not group.members:
                self._groups.pop((group.pattern, group.queue), None)


class _Group:
    """Those who listen to one pattern, in one queue or in none."""

    def __init__(self, pattern: str, queue: str) -> None:
        self.pattern = pattern
        self.queue = queue
        self.members: deque[_Member] = deque()

    def give(self, message: Message) -> None:
        if self.queue:
            self.members[0].sink(message)
            self.members.rotate(-1)
            return
        for member in [*self.members]:
            member.sink(message)


class _Member:
    def __init__(self, broker: MemoryBroker, group: _Group, sink: Sink) -> None:
        self._broker = broker
        self.group = group
        self.sink = sink

    async def close(self) -> None:
        self._broker._left(self)


class _Address:
    def __init__(self, broker: MemoryBroker, address: str) -> None:
        self._broker = broker
        self.address = address

    async def close(self) -> None:
        self._broker._addresses.pop(self.address, None)
