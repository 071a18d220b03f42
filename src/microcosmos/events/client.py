"""Events over rpc: a log of the same contract, by way of the core."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from . import wire
from .checks import check_drafts, check_page, check_spec
from .interface import (
    MAX_PAYLOAD,
    PUBLISH_PATIENCE,
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
from .remote_group import RemoteGroup

T = TypeVar("T")

_LARGEST = (MAX_PAYLOAD + 1024 * 1024) * 4 // 3 + wire.PIECE
_PAUSE = 0.25
# What the core itself may wait for the engine before it says that it cannot be reached.
_PATIENCE = PUBLISH_PATIENCE + 5.0


class RemoteLog:
    """See `interface.Log`; its group of a service is the core's member, its events go through it.

    Args:
        client: one that calls as the process itself, in the namespace of the log.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __repr__(self) -> str:
        return "rpc://events"

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        """See `interface.Log`."""
        if not drafts:
            return []
        # With ids of their own they are not stored twice, however often it is tried.
        named = [
            one if one.id else msgspec.structs.replace(one, id=str(uuid.uuid4()))
            for one in check_drafts(drafts)
        ]
        wire.check_size(named)
        until = time.monotonic() + PUBLISH_PATIENCE
        while True:
            try:
                return await self._append(named)
            except (errors.Unavailable, errors.ConnectionLost) as error:
                pause = random.uniform(0.5, 1.5) * _PAUSE
                if time.monotonic() + pause > until:
                    raise errors.Unavailable("events", error.detail) from None
            await asyncio.sleep(pause)

    async def _append(self, drafts: Sequence[Draft]) -> list[Receipt]:
        if sum(map(_size, drafts)) > wire.MAX_REMOTE:
            return await self._upload(drafts)
        request = wire.Drafts([*drafts])
        return (await self._ask("Stream.Append", request, wire.Receipts, _PATIENCE)).receipts

    async def _upload(self, drafts: Sequence[Draft]) -> list[Receipt]:
        async with self._client.stream(wire.NAME, "Stream.Upload", b"{}") as stream:
            try:
                for draft in drafts:
                    for piece in wire.pieces(draft):
                        await stream.send(codec.encode(piece))
                await stream.end()
            except errors.Conflict:
                # It has answered before the end; the answer says why.
                pass
            async for message in stream:
                return codec.decode(message, wire.Receipts, id=wire.NAME).receipts
        raise errors.Unavailable("events", "the core has not said that the events are stored")

    def group(self, spec: GroupSpec) -> AbstractAsyncContextManager[Group]:
        """See `interface.Log`."""
        return RemoteGroup(self._client, check_spec(spec))

    async def join(self, spec: GroupSpec) -> list[str]:
        """What the engine calls the consumers of a group, which is made if there was none.

        Raises:
            errors.Conflict: there is such a group, ordered otherwise.
        """
        request = wire.JoinRequest(check_spec(spec))
        return (await self._ask("Stream.Join", request, wire.Joined)).consumers

    async def ttls(self) -> dict[str, float]:
        """The topics whose events are kept for a time only, and for how many seconds."""
        return (await self._ask("Topics.Ttls", {}, wire.Ttls)).ttls

    async def read(
        self, topic: str, *, limit: int = 250, offset: int = 0, after: int = 0
    ) -> list[Event]:
        """See `interface.Log`."""
        check_page(limit, offset, after)
        request = wire.ReadRequest(topic=topic, limit=limit, offset=offset, after=after)
        return [event async for event in self._scan("Store.Scan", request, Event)]

    async def topics(self, pattern: str = ">") -> list[TopicState]:
        """See `interface.Log`."""
        request = wire.Topic(topic=pattern)
        return (await self._ask("Topics.List", request, wire.Topics)).topics

    async def inspect(self, topic: str) -> TopicState:
        """See `interface.Log`."""
        return await self._ask("Topics.Inspect", wire.Topic(topic=topic), TopicState)

    async def create(self, topic: str, *, ttl: float = 0) -> None:
        """See `interface.Log`."""
        await self._ask("Topics.Create", wire.CreateRequest(topic=topic, ttl=ttl), wire.Nothing)

    async def delete(self, topic: str) -> int:
        """See `interface.Log`."""
        return (await self._ask("Topics.Delete", wire.Topic(topic=topic), wire.Number)).events

    async def purge(self, topic: str, *, before: int = 0, keep: int = 0) -> int:
        """See `interface.Log`."""
        request = wire.PurgeRequest(topic=topic, before=before, keep=keep)
        return (await self._ask("Topics.Purge", request, wire.Number)).events

    async def groups(self, pattern: str = ">") -> list[GroupState]:
        """See `interface.Log`."""
        request = wire.Topic(topic=pattern)
        return (await self._ask("Groups.List", request, wire.Groups)).groups

    async def reset(self, topic: str, group: str, start: Start) -> None:
        """See `interface.Log`."""
        request = wire.ResetRequest(topic=topic, group=group, start=start)
        await self._ask("Groups.Reset", request, wire.Nothing)

    async def forget(self, topic: str, group: str) -> None:
        """See `interface.Log`."""
        await self._ask("Groups.Delete", wire.GroupName(topic=topic, group=group), wire.Nothing)

    async def dead(
        self, topic: str = ">", *, group: str = "", limit: int = 250, after: int = 0
    ) -> list[DeadLetter]:
        """See `interface.Log`."""
        check_page(limit, 0, after)
        request = wire.LettersRequest(topic=topic, group=group, limit=limit, after=after)
        return [one async for one in self._scan("DeadLetters.Scan", request, DeadLetter)]

    async def redrive(self, topic: str, *, group: str = "", numbers: Sequence[int] = ()) -> int:
        """See `interface.Log`."""
        request = wire.RedriveRequest(topic=topic, group=group, numbers=[*numbers])
        return (await self._ask("DeadLetters.Redrive", request, wire.Number, _PATIENCE)).events

    async def schedule(self, schedule: Schedule) -> None:
        """See `interface.Log`."""
        await self._ask("Schedules.Create", schedule, wire.Nothing)

    async def schedules(self) -> list[Schedule]:
        """See `interface.Log`."""
        return (await self._ask("Schedules.List", wire.Topic(), wire.Schedules)).schedules

    async def unschedule(self, id: str) -> None:
        """See `interface.Log`."""
        await self._ask("Schedules.Delete", wire.ScheduleId(id), wire.Nothing)

    async def _scan(self, endpoint: str, request: Any, kind: type[T]) -> AsyncIterator[T]:
        whole = wire.Whole(kind, _LARGEST)
        async with self._client.stream(wire.NAME, endpoint, codec.encode(request)) as stream:
            async for message in stream:
                piece: wire.Piece = codec.decode(message, wire.Piece, id=wire.NAME)
                if (found := whole.add(piece)) is not None:
                    yield found

    async def _ask(
        self, endpoint: str, request: Any, kind: type[T], timeout: float | None = None
    ) -> T:
        body = codec.encode(request)
        answer = await self._client.call(wire.NAME, endpoint, body, timeout=timeout)
        found: T = codec.decode(answer, kind, id=wire.NAME)
        return found


def _size(draft: Draft) -> int:
    return len(draft.payload) + sum(len(k) + len(v) for k, v in draft.metadata.items()) + 512
