"""What a service publishes and consumes: its events, and the functions that work topics off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.recipient import Recipient
from microcosmos.base.tasks import background
from microcosmos.base.topics import check_topic
from microcosmos.events.consuming import Backoff, Consumer
from microcosmos.events.events import Events
from microcosmos.events.interface import Event, GroupSpec, Log, Start
from microcosmos.events.schema import Contracts
from microcosmos.events.schema.declaring import declare
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.lease import LEASE
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.events.transactions.relay import WAITING
from microcosmos.events.transactions.transaction import Box, Transaction
from microcosmos.rpc import Hosted
from microcosmos.store import Store, Write

from .interface import Platform

log = logging.getLogger("microcosmos.service")

LOOK_AGAIN = 1.0
"""Seconds until a service whose store could not be reached looks again for what waits in it."""


class OwnEvents(Events):
    """A service's events: those of its namespace, with the outbox and inbox of its own store.

    Entered while the service runs.

    Attributes:
        box: the outbox, which publishes once it is first used.

    Args:
        events: of the namespace.
        store: the service's.
        contracts: what events are checked by.
        clock: what waiting goes by.
    """

    def __init__(
        self, events: Log, store: Store, contracts: Contracts | None, clock: Clock = SYSTEM
    ) -> None:
        self.box: Box = _Box(lambda: self.outbox)
        super().__init__(events, contracts, inbox=Inbox(store, self.box), clock=clock)
        self._outbox = Outbox(store, events, make=self.draft)
        self._waiting = store.part(WAITING)
        self._stack = AsyncExitStack()
        self._relaying: asyncio.Task[Outbox] | None = None

    @property
    def outbox(self) -> Outbox:
        """Publishes events if, and only if, a transaction of the store is committed."""
        if self._relaying is None:
            entering = self._stack.enter_async_context(self._outbox)
            self._relaying = asyncio.create_task(entering, name="outbox")
        return self._outbox

    async def unsent(self) -> int:
        """How many events wait in the outbox that this process publishes."""
        return (await self._outbox.backlog()).waiting if self._relaying is not None else 0

    async def __aenter__(self) -> OwnEvents:
        await self._stack.enter_async_context(background(self._resume(), "outbox"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._relaying is not None:
            await asyncio.wait([self._relaying])
        await self._stack.aclose()

    async def _resume(self) -> None:
        """Publish what others have committed and nobody publishes, before and while this runs."""
        while self._relaying is None:
            try:
                if await self._waiting.list(limit=1):
                    log.info("events wait in the outbox: %s", self.outbox)
                await asyncio.sleep(LEASE)
            except (errors.Unavailable, errors.DeadlineExceeded):
                await asyncio.sleep(LOOK_AGAIN)
            except errors.Error as exc:
                log.debug("this service has no store: %s", exc)
                return


class _Box:
    """An outbox that begins to publish when it is first used."""

    def __init__(self, outbox: Callable[[], Outbox]) -> None:
        self._outbox = outbox

    async def op(self, topic: str, message: Any, **about: Any) -> Write:
        """See `Outbox.op`."""
        return await self._outbox().op(topic, message, **about)


class Work(NamedTuple):
    """A function of a service that works a topic off, as its author declared it."""

    recipient: Recipient
    topic: str
    group: str
    start: Start
    ordered: bool
    concurrency: int
    retry_limit: int
    backoff: Backoff
    ack_wait: float

    def consumer(
        self, service: str, contracts: Contracts | None = None, clock: Clock = SYSTEM
    ) -> Consumer:
        """What works it off in a service of this name, which is the group's unless it has one.

        Raises:
            errors.BadRequest: it cannot be that.
        """
        group = self.group or service
        spec = GroupSpec(self.topic, group, self.start, self.ordered, self.ack_wait)
        return Consumer(
            self.recipient,
            spec,
            retry_limit=self.retry_limit,
            backoff=self.backoff,
            concurrency=self.concurrency,
            contracts=contracts,
            clock=clock,
        )


class Topics:
    """What a service declares of events, and has of them while it runs.

    Attributes:
        events: while it runs.
        consumers: those that work, while it runs.

    Args:
        service: its name.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._works: list[Work] = []
        self._published: dict[str, type] = {}
        self.consumers: list[Consumer] = []
        self.events: OwnEvents | None = None

    def publishes(self, topic: str, kind: type) -> None:
        """Say what is published on a topic; see `Service.publishes`."""
        if self._published.setdefault(check_topic(topic), kind) is not kind:
            before = self._published[topic].__name__
            raise TypeError(f"{topic} is said to be of {before} and of {kind.__name__}")

    def add(self, function: Callable[..., Any], topic: str, *, once: bool, **about: Any) -> None:
        """Let a function work a topic off; see `Service.consume`."""
        recipient = Recipient(function, Event, Transaction)
        if once != bool(recipient.companion):
            raise TypeError(
                f"{recipient.name}: `once=True` and a parameter of the type Transaction, by which "
                "it writes, go together"
            )
        work = Work(recipient, topic, **about)
        spec = work.consumer(self._service).spec
        for other in self._works:
            if other.consumer(self._service).spec == spec:
                raise TypeError(
                    f"{recipient.name} and {other.recipient.name} consume {topic} as one group: "
                    "each event would be given to one of them; give one another group"
                )
        self._works.append(work)

    @property
    def box(self) -> Box:
        """What events of transactions leave by, while it runs."""
        if self.events is None:
            raise RuntimeError("it has no events yet")
        return self.events.box

    @asynccontextmanager
    async def open(
        self, platform: Platform, store: Store, hosted: Hosted
    ) -> AsyncIterator[OwnEvents]:
        """Have events until the block ends, once it was said what is consumed and served.

        Raises:
            errors.Conflict: it breaks somebody.
        """
        events = OwnEvents(platform.events, store, platform.contracts, platform.clock)
        await self._declare(platform.contracts, hosted)
        async with events:
            self.events = events
            try:
                yield events
            finally:
                self.events = None

    async def _declare(self, contracts: Contracts | None, hosted: Hosted) -> None:
        if contracts is None:
            return
        consumes = [
            (work.topic, work.group or hosted.name, work.recipient.kind) for work in self._works
        ]
        endpoints = {one.name: one.schema for one in hosted.endpoints.values()}
        try:
            await declare(
                contracts,
                hosted.name,
                consumes=consumes,
                publishes=self._published.items(),
                endpoints=endpoints,
            )
        except (errors.Unavailable, errors.DeadlineExceeded, errors.NotFound) as exc:
            log.warning("the schemas of %s could not be checked: %s", hosted.name, exc.detail)

    @asynccontextmanager
    async def consuming(self, platform: Platform, service: str) -> AsyncIterator[None]:
        """Work off what was declared, until the block ends.

        Raises:
            errors.Conflict: a group is there already, ordered otherwise.
        """
        if self.events is None:
            raise RuntimeError("it has no events yet")
        contracts, clock = self.events.contracts, platform.clock
        self.consumers = [work.consumer(service, contracts, clock) for work in self._works]
        async with AsyncExitStack() as stack:
            for consumer in self.consumers:
                at_work = consumer.on(
                    platform.events,
                    inbox=self.events.inbox,
                    namespace=platform.namespace,
                    client=platform.client,
                )
                await stack.enter_async_context(at_work)
            yield


def declared_backoff(backoff: Backoff | float | None) -> Backoff:
    """How long an event that failed is left alone, as an author says it: seconds at first."""
    if isinstance(backoff, Backoff):
        return backoff
    return Backoff() if backoff is None else Backoff(first=backoff)
