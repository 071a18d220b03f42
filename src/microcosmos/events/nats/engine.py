"""The log as services have it: publishing and pulling on the engine, the rest by the core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol

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

from .link import Link
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


class EngineLog:
    """The log of a namespace for a process that may publish and pull, and nothing else there.

    Args:
        nc: a connection in the account of the namespace.
        control: asks the core for everything else.
    """

    def __init__(self, nc: NatsClient, control: Control) -> None:
        self._nc = nc
        self._control = control
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> EngineLog:
        """Listen for acknowledgements.

        Raises:
            errors.Unavailable: the connection is closed.
        """
        async with AsyncExitStack() as stack:
            self._link = Link(self._nc)
            self._ttls = Ttls(self._link, self._control.ttls)
            await self._ttls.open()
            stack.push_async_callback(self._ttls.close)
            self._publisher = Publisher(self._link, self._ttls)
            await self._publisher.open()
            stack.push_async_callback(self._publisher.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def ttl(self, topic: str) -> float:
        """Seconds that the events of a topic are kept unless they say so, 0 for ever."""
        return self._ttls(topic)

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        """See `interface.Log`."""
        if not self._ttls.asked:
            await self._ttls.known()
        return await self._publisher.publish(drafts)

    @asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Group]:
        """See `interface.Log`."""
        names = await self._control.join(check_spec(spec))
        member = Member(self._link, self._publisher, spec, names, self._control.join, self._exists)
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
        self._ttls.set(topic, check_ttl(ttl))

    async def delete(self, topic: str) -> int:
        """See `interface.Log`."""
        number = await self._control.delete(topic)
        self._ttls.set(topic, 0)
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
