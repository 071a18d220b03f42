"""The log as services have it: publishing and pulling on the engine, the rest by the core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import NamedTuple, Protocol

from nats.aio.client import Client as NatsClient

from microcosmos.events.checks import check_spec, check_ttl
from microcosmos.events.interface import (
    DeadLetter,
    Draft,
    Event,
    Group,
    GroupSpec,
    GroupState,
    Log,
    Receipt,
    Schedule,
    Start,
    TopicState,
)

from .link import Link, Turnstile
from .member import Member
from .publisher import Publisher
from .settings import Ttls


class Control(Log, Protocol):
    """A log that can let others in: the core's, or one that asks the core."""

    async def join(self, spec: GroupSpec) -> list[str]:
        """Make a group unless there is one, and tell what its members need to pull from it.

        Raises:
            errors.Conflict: there is such a group, ordered otherwise.
        """

    async def ttls(self) -> dict[str, float]:
        """The topics whose events are kept for a time only, and for how many seconds."""


class _Open(NamedTuple):
    """What a log has once it is used."""

    link: Link
    ttls: Ttls
    publisher: Publisher


class EngineLog:
    """The log of a namespace for a process that may publish and pull, and nothing else there.

    Args:
        nc: a connection in the account of the namespace.
        control: asks the core for everything else.
    """

    def __init__(self, nc: NatsClient, control: Control) -> None:
        self._nc = nc
        self._control = control
        self._opening = Turnstile()
        self._open: _Open | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> EngineLog:
        """Nothing is asked of the engine before it is used."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _opened(self) -> _Open:
        async with self._opening:
            if self._open is None:
                async with AsyncExitStack() as stack:
                    link = Link(self._nc)
                    ttls = Ttls(link, self._control.ttls)
                    await ttls.open()
                    stack.push_async_callback(ttls.close)
                    publisher = Publisher(link, ttls)
                    await publisher.open()
                    stack.push_async_callback(publisher.close)
                    await ttls.known()
                    self._open = _Open(link, ttls, publisher)
                    self._stack = stack.pop_all()
            return self._open

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        """See `interface.Log`."""
        # Who waits for its being opened goes first: what is published is stored in that order.
        here = self._open if self._open and not self._opening else await self._opened()
        return await here.publisher.publish(drafts)

    @asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Group]:
        """See `interface.Log`."""
        here = self._open or await self._opened()
        names = await self._control.join(check_spec(spec))
        join = self._control.join
        member = Member(here.link, here.publisher, spec, names, join, self._exists)
        await member.open()
        try:
            yield member
        finally:
            # What a group without a name has on the engine is forgotten there before long.
            await member.close()

    async def _exists(self, spec: GroupSpec) -> bool:
        found = await self._control.groups(spec.topic)
        return any(one.name == spec.name and one.topic == spec.topic for one in found)

    async def read(
        self, topic: str, *, limit: int = 250, offset: int = 0, after: int = 0
    ) -> list[Event]:
        """See `interface.Log`."""
        return await self._control.read(topic, limit=limit, offset=offset, after=after)

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        """See `interface.Log`."""
        return await self._control.topics(pattern)

    async def inspect(self, topic: str) -> TopicState:
        """See `interface.Log`."""
        return await self._control.inspect(topic)

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        """See `interface.Log`."""
        await self._control.create(topic, ttl=ttl)
        if self._open is not None:
            self._open.ttls.set(topic, check_ttl(ttl))

    async def delete(self, topic: str) -> int:
        """See `interface.Log`."""
        number = await self._control.delete(topic)
        if self._open is not None:
            self._open.ttls.set(topic, 0)
        return number

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        """See `interface.Log`."""
        return await self._control.purge(topic, before=before, keep=keep)

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        """See `interface.Log`."""
        return await self._control.groups(pattern)

    async def reset(self, topic: str, group: str, start: Start) -> None:
        """See `interface.Log`."""
        await self._control.reset(topic, group, start)

    async def forget(self, topic: str, group: str) -> None:
        """See `interface.Log`."""
        await self._control.forget(topic, group)

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        """See `interface.Log`."""
        return await self._control.dead(topic, group=group, limit=limit, after=after)

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        return await self._control.redrive(topic, group=group, numbers=numbers)

    async def schedule(self, schedule: Schedule) -> None:
        """See `interface.Log`."""
        await self._control.schedule(schedule)

    async def schedules(self) -> list[Schedule]:
        """See `interface.Log`."""
        return await self._control.schedules()

    async def unschedule(self, id: str) -> None:
        """See `interface.Log`."""
        await self._control.unschedule(id)
