"""The broker over rpc, for processes without a connection to the engine."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import msgspec

from microcosmos.base import codec, errors, topics
from microcosmos.base.context import TRACE
from microcosmos.rpc import Client

from . import wire
from .failures import Failure, Failures
from .headers import check_queue, checked, too_large
from .interface import FailureSink, Message, Reports, Sink, Subscription

log = logging.getLogger("microcosmos.broker")

FIRST_PAUSE = 0.05
"""Seconds until a stream that broke is opened again; doubled each time that this fails."""

LONGEST_PAUSE = 1.0
"""Seconds that it becomes at most."""

T = TypeVar("T")


class RemoteBroker:
    """See `interface.Broker`; the core does the work, for this process' own account.

    Bodies have at most `wire.MAX_BODY` bytes here. While the core is away nothing is heard.

    Args:
        client: carries the calls.
    """

    def __init__(self, client: Client) -> None:
        self.failures = Failures()
        self._client = client.own()
        self._told: _Address | None = None
        self._telling: asyncio.Task[_Address] | None = None
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
        if len(body) > wire.MAX_BODY:
            raise too_large(len(body), wire.MAX_BODY)
        report = report or await self._own()
        message = wire.Message(sent, body, report=report)
        await self._call("Publish", wire.PublishRequest(topic, message))

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        topics.check_pattern(pattern)
        check_queue(queue)
        request = wire.SubscribeRequest(pattern, queue, ready=True)

        def take(body: bytes) -> None:
            one = msgspec.json.decode(body, type=wire.Message)
            if one.topic:
                sink(Message(one.topic, one.body, one.header, one.report))

        return await self._follow("Subscribe", request, take, f"messages of {pattern}")

    async def report(self, message: Message, subscriber: str, reason: str) -> None:
        if message.report:
            trace = message.headers.get(TRACE, "")
            request = wire.ReportRequest(message.report, message.topic, subscriber, reason, trace)
            await self._call("Report", request)

    async def reports(self, sink: FailureSink) -> Reports:
        address = _Address()

        def take(body: bytes) -> None:
            one = msgspec.json.decode(body, type=wire.Reported)
            if one.report:
                address.address = one.report
            else:
                sink(Failure(one.topic, one.subscriber, one.reason, one.trace))

        what = "reports of failures"
        address.stream = await self._follow("Reports", wire.ReportsRequest(), take, what)
        return address

    async def _own(self) -> str:
        """The address of this process, asked for once however many publish."""
        if self._told is None:
            if self._telling is None:
                self._telling = asyncio.create_task(self._tell())
            telling = self._telling
            try:
                self._told = await asyncio.shield(telling)
            except errors.Error:
                self._telling = None
                raise
        return self._told.address

    async def _tell(self) -> _Address:
        return await self.reports(self.failures.report)  # type: ignore[return-value]

    async def _follow(
        self, method: str, request: msgspec.Struct, take: Callable[[bytes], None], what: str
    ) -> _Followed:
        if self._closed:
            raise errors.Unavailable("broker", "the broker is closed")
        followed = _Followed(self._client, f"Broker.{method}", codec.encode(request), take, what)
        await followed.open()
        return followed

    async def _call(self, method: str, request: msgspec.Struct) -> None:
        await self._client.call(wire.NAME, f"Broker.{method}", codec.encode(request), retry=False)

    async def close(self) -> None:
        self._closed = True
        if self._telling is not None:
            with contextlib.suppress(errors.Error):
                await (await self._telling).close()
        self.failures.close()


class _Followed:
    """A stream of the core's that is opened again whenever it breaks, until it is closed."""

    def __init__(
        self,
        client: Client,
        endpoint: str,
        request: bytes,
        take: Callable[[bytes], None],
        what: str,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._request = request
        self._take = take
        self._what = what
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # It outlives the call that is being handled, with its deadline.
        clean = contextvars.Context()
        self._task = asyncio.create_task(self._keep(), name=f"{endpoint} {what}", context=clean)

    async def open(self) -> None:
        """Return once the first message has come: the core listens then.

        Raises:
            errors.Error: why the core does not.
        """
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            await self.close()
            raise

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async for message in self._messages():
                    self._take(message)
                    pause = FIRST_PAUSE
                    if not self._ready.done():
                        self._ready.set_result(None)
                reason = "the core ended the stream"
            except errors.Error as error:
                if not self._ready.done():
                    self._ready.set_exception(error)
                    return
                reason = error.detail
            except asyncio.CancelledError:
                self._ready.cancel()
                raise
            if pause == FIRST_PAUSE:
                log.warning("%s are not heard for a while: %s", self._what, reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _messages(self) -> AsyncIterator[bytes]:
        async with self._client.stream(wire.NAME, self._endpoint, self._request) as stream:
            async for message in stream:
                yield message

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class _Address:
    """Where reports of failures come; the core gives another address when it is another core."""

    def __init__(self) -> None:
        self.address = ""
        self.stream: _Followed | None = None

    async def close(self) -> None:
        if self.stream is not None:
            await self.stream.close()
