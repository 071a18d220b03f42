"""The log of a namespace as the core has it: all of it, straight on the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType

import msgspec
from nats.aio.client import Client as NatsClient

from microcosmos.base import errors
from microcosmos.base.topics import check_pattern, check_topic
from microcosmos.events.checks import check_page, check_purge, check_ttl
from microcosmos.events.interface import (
    DeadLetter,
    Draft,
    Event,
    Group,
    GroupSpec,
    GroupState,
    Receipt,
    Schedule,
    Start,
    TopicState,
)

from .api import (
    BATCH,
    BATCH_BYTES,
    NOT_CLUSTERED,
    STREAM_MISSING,
    STREAM_OTHERWISE,
    TOO_FEW,
    Api,
    Found,
    Refused,
)
from .groups import Groups
from .layout import DEAD, DEAD_SUBJECT, STREAM, TOPICS, event_of, selected, streams, topic_of
from .letters import Letters
from .link import Link
from .member import Member
from .publisher import Publisher
from .schedules import Schedules
from .settings import Settings, TopicSettings, Ttls


class NatsLog:
    """The events of one namespace in JetStream; its streams are made on entry.

    Attributes:
        nc: the connection.

    Args:
        nc: the core's connection in the account of the namespace.
        secret: what the names of groups on the engine are made with, so that none is guessed.
        replicas: on how many servers of the engine each event is kept.
        durability: what an acknowledged event survives, for people.
    """

    def __init__(
        self, nc: NatsClient, *, secret: bytes, replicas: int = 1, durability: str = ""
    ) -> None:
        self.nc = nc
        self._replicas = replicas
        self._durability = durability
        self._api = Api(nc)
        self._groups = Groups(self._api, secret)
        self._settings = Settings(self._api)
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return "<the events of a namespace>"

    async def __aenter__(self) -> NatsLog:
        """Make the streams.

        Raises:
            errors.Unavailable: the engine cannot be reached, or cannot make them.
        """
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(self._make(one) for one in streams(self._replicas)))
            self._link = Link(self.nc)
            self._ttls = Ttls(self._link, self._settings.ttls)
            await self._ttls.open()
            stack.push_async_callback(self._ttls.close)
            self._publisher = Publisher(self._link, self._ttls, self._api.check)
            await self._publisher.open()
            stack.push_async_callback(self._publisher.close)
            await self._ttls.known()
            self._letters = Letters(self._api, self._publisher)
            self._schedules = Schedules(self._api, self._ttls)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _make(self, config: dict[str, object]) -> None:
        """Make a stream, or let the one that is there be as it is to be."""
        try:
            await self._api(f"STREAM.CREATE.{config['name']}", config)
        except Refused as refused:
            if refused.code in (NOT_CLUSTERED, TOO_FEW) and config["num_replicas"] != 1:
                # The engine is a single server, or has too few.
                await self._make({**config, "num_replicas": 1})
            elif refused.code == STREAM_OTHERWISE:
                await self._update(config)
            else:
                raise refused.error from None

    async def _update(self, config: dict[str, object]) -> None:
        """What is said of a stream but for its replicas: whoever runs the engine chose them."""
        found = await self._api.ask(f"STREAM.INFO.{config['name']}")
        kept = {"num_replicas": found["config"]["num_replicas"]}
        await self._api.ask(f"STREAM.UPDATE.{config['name']}", {**config, **kept})

    async def check(self) -> None:
        """See that events can be stored.

        Raises:
            Frozen: they cannot until the engine is started again, and why.
            errors.Unavailable: the engine does not answer.
        """
        await self._api.check()

    async def destroy(self) -> None:
        """Remove the streams with everything in them: the namespace is gone."""
        for name in (STREAM, DEAD, TOPICS):
            # nats-server forgets a stream at once, and its files later. Where that fails, as while
            # those of one deleted before still go, the next of the name would have what is in them.
            with suppress(Refused):
                await self._api(f"STREAM.PURGE.{name}")
            try:
                await self._api(f"STREAM.DELETE.{name}")
            except Refused as refused:
                if refused.code != STREAM_MISSING:
                    raise refused.error from None

    # Publishing.

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        """See `interface.Log`."""
        return await self._publisher.publish(drafts)

    async def ttls(self) -> dict[str, float]:
        """See `engine.Control`."""
        return await self._settings.ttls()

    # Groups.

    async def join(self, spec: GroupSpec) -> list[str]:
        """See `engine.Control`."""
        return await self._groups.join(spec)

    @asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Group]:
        """See `interface.Log`."""
        names = await self._groups.join(spec)
        member = Member(
            self._link, self._publisher, spec, names, self._groups.join, self._groups.exists
        )
        try:
            await member.open()
            try:
                yield member
            finally:
                await member.close()
        finally:
            if not spec.name:
                # Unreachable, it forgets them by itself.
                with suppress(errors.Error):
                    await self._groups.leave(member.names)

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        """See `interface.Log`."""
        return await self._groups.on(check_pattern(pattern))

    async def reset(self, topic: str, group: str, start: Start) -> None:
        """See `interface.Log`."""
        await self._groups.reset(topic, group, start)

    async def forget(self, topic: str, group: str) -> None:
        """See `interface.Log`."""
        await self._groups.forget(topic, group)

    # Looking.

    async def read(
        self, topic: str, *, limit: int = 250, offset: int = 0, after: int = 0
    ) -> list[Event]:
        """See `interface.Log`."""
        check_pattern(topic)
        check_page(limit, offset, after)
        found: list[Found] = []
        size = 0
        while len(found) < limit and size < BATCH_BYTES:
            wanted = min(offset + limit - len(found), BATCH)
            page = await self._api.read(STREAM, after, wanted, selected(topic))
            if not page:
                break
            after = page[-1].sequence
            skipped = min(offset, len(page))
            offset -= skipped
            found += page[skipped:]
            size += sum(len(one.payload) for one in page[skipped:])
        return [_event(one) for one in found]

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        """See `interface.Log`; without the first and the last event of each."""
        check_pattern(pattern)
        events, dead, settings = await asyncio.gather(
            self._counts(pattern), self._dead_counts(pattern), self._settings.read(pattern)
        )
        return [
            TopicState(
                topic,
                events.get(topic, 0),
                dead.get(topic, 0),
                ttl=settings[topic].ttl if topic in settings else 0,
                durability=self._durability,
            )
            for topic in sorted(events.keys() | settings.keys())
        ]

    async def inspect(self, topic: str) -> TopicState:
        """See `interface.Log`."""
        states = await self.topics(check_topic(topic))
        if not states:
            raise errors.NotFound(
                "events", f"no topic {topic}: it has no events and was never created"
            )
        first, last, groups = await asyncio.gather(
            self._api.get(STREAM, seq=1, next_by_subj=selected(topic)),
            self._api.get(STREAM, last_by_subj=selected(topic)),
            self._groups.of(topic),
        )
        return msgspec.structs.replace(
            states[0],
            first=first.sequence if first else 0,
            last=last.sequence if last else 0,
            groups=tuple(groups),
        )

    async def _counts(self, pattern: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for subject, number in (await self._api.subjects(STREAM, selected(pattern))).items():
            topic = topic_of(subject)
            counts[topic] = counts.get(topic, 0) + number
        return counts

    async def _dead_counts(self, pattern: str) -> dict[str, int]:
        found = await self._api.subjects(DEAD, DEAD_SUBJECT + pattern)
        return {subject.removeprefix(DEAD_SUBJECT): number for subject, number in found.items()}

    # Topics.

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        """See `interface.Log`."""
        kept = check_ttl(ttl)
        await self._settings.write(check_topic(topic), TopicSettings(kept))
        self._ttls.set(topic, kept)

    async def delete(self, topic: str) -> int:
        """See `interface.Log`."""
        number = await self.purge(check_topic(topic))
        await self._api.ask(f"STREAM.PURGE.{DEAD}", {"filter": DEAD_SUBJECT + topic})
        for state in await self._groups.of(topic):
            if state.topic == topic:
                with suppress(errors.NotFound):
                    await self._groups.forget(topic, state.name)
        await self._settings.remove(topic)
        self._ttls.set(topic, 0)
        return number

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        """See `interface.Log`."""
        body: dict[str, object] = {"filter": selected(check_pattern(topic))}
        check_purge(before, keep)
        if before:
            body["seq"] = before
        elif keep:
            body["keep"] = keep
        return int((await self._api.ask(f"STREAM.PURGE.{STREAM}", body))["purged"])

    # Dead letters.

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        """See `interface.Log`."""
        check_page(limit, 0, after)
        return await self._letters.read(check_pattern(topic), group, limit, after)

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        """See `interface.Log`."""
        return await self._letters.redrive(check_pattern(topic), group, frozenset(numbers))

    # Schedules.

    async def schedule(self, schedule: Schedule) -> None:
        """See `interface.Log`."""
        await self._schedules.write(schedule)

    async def schedules(self) -> list[Schedule]:
        """See `interface.Log`."""
        return await self._schedules.read()

    async def unschedule(self, id: str) -> None:
        """See `interface.Log`."""
        await self._schedules.remove(id)


def _event(found: Found) -> Event:
    topic = topic_of(found.subject)
    return event_of(topic, found.payload, found.headers, found.sequence, found.stored)
