"""The broker served over rpc, with the endpoints of Micro v3 and two more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from microcosmos.base import context, topics
from microcosmos.base.context import TRACE
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Endpoint, Hosted

from . import wire
from .failures import Failure
from .headers import too_large, travelling
from .interface import Broker, Message
from .listening import listening

Authorise = Callable[[str, str], None]
"""Refuses who may not do something (``publish``, ``subscribe``) with a topic or a pattern; who
asks is the account of the current context."""

MAX_REPORTS = 100
"""Reports that wait in the core for one remote publisher; further ones are only counted."""


def trusting(topic: str, verb: str) -> None:
    """Lets everybody do everything, where there are no accounts."""


class BrokerService:
    """Serves the broker.

    Args:
        broker_of: gives the broker of a namespace.
        authorise: says who may; everybody unless said.
    """

    def __init__(self, broker_of: Callable[[str], Broker], authorise: Authorise = trusting) -> None:
        self._broker_of = broker_of
        self._authorise = authorise

    def hosted(self) -> Hosted:
        """The service ``broker``."""
        endpoints = [
            _endpoint(self.publish),
            _endpoint(self.subscribe),
            _endpoint(self.report),
            _endpoint(self.reports),
        ]
        return Hosted(wire.NAME, endpoints)

    def _broker(self) -> Broker:
        return self._broker_of(context.current().namespace)

    async def publish(self, request: wire.PublishRequest) -> wire.Empty:
        """Send a message to all who listen; the call's metadata is its metadata too."""
        topics.check_topic(request.topic)
        self._authorise(request.topic, "publish")
        message = request.message
        if len(message.body) > wire.MAX_BODY:
            raise too_large(len(message.body), wire.MAX_BODY)
        titled = {context.title(name): value for name, value in message.header.items()}
        headers = {**travelling(), **titled}
        await self._broker().publish(request.topic, message.body, headers, report=message.report)
        return wire.Empty()

    async def subscribe(self, request: wire.SubscribeRequest) -> AsyncIterator[wire.Message]:
        """The messages of a topic or a pattern, from now on."""
        topics.check_pattern(request.topic)
        self._authorise(request.topic, "subscribe")
        broker = self._broker()
        async with listening(
            broker,
            request.topic,
            queue=request.queue,
            name=_caller(),
            most=wire.MAX_WAITING,
            most_bytes=wire.MAX_WAITING_BYTES,
        ) as messages:
            if request.ready:
                yield wire.Message()
            async for message in messages:
                # The rules may have changed since.
                self._authorise(request.topic, "subscribe")
                if len(message.body) > wire.MAX_BODY:
                    broker.failures.fail(_giant(message))
                    continue
                yield wire.Message(message.headers, message.body, message.topic, message.report)

    async def report(self, request: wire.ReportRequest) -> wire.Empty:
        """Tell a message's publisher that a subscriber failed."""
        topics.check_topic(request.topic)
        self._authorise(request.topic, "subscribe")
        message = Message(request.topic, b"", {TRACE: request.trace}, request.report)
        await self._broker().report(message, request.subscriber, request.reason)
        return wire.Empty()

    async def reports(self, request: wire.ReportsRequest) -> AsyncIterator[wire.Reported]:
        """An address to publish with, and then the failures that are told there."""
        waiting: deque[Failure] = deque(maxlen=MAX_REPORTS)
        came = asyncio.Event()

        def tell(failure: Failure) -> None:
            waiting.append(failure)
            came.set()

        told = await self._broker().reports(tell)
        try:
            yield wire.Reported(report=told.address)
            while True:
                await came.wait()
                came.clear()
                while waiting:
                    one = waiting.popleft()
                    yield wire.Reported("", one.topic, one.subscriber, one.reason, one.trace)
        finally:
            await told.close()


def _endpoint(function: Callable[..., Any]) -> Endpoint:
    return endpoint(function, wire.NAME, access="account")


def _caller() -> str:
    """Who listens, for the log."""
    account = context.current().account
    return str(getattr(account, "id", "") or "a remote subscriber")


def _giant(message: Message) -> Failure:
    reason = f"a message of {len(message.body)} bytes is too large to be sent by rpc"
    return Failure(message.topic, _caller(), reason, message.headers.get(TRACE, ""))
