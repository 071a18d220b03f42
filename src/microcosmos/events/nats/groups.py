"""Groups: durable consumers, made, moved and removed by the core alone.

A group is one consumer; an ordered one has a consumer for each partition, of which the engine
gives out one event at a time. Their names are what members need to pull, and nobody can guess them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Any

from microcosmos.base import errors
from microcosmos.base.topics import matches
from microcosmos.events.checks import check_spec, check_start, ordered_otherwise
from microcosmos.events.interface import (
    MAX_PENDING,
    PARTITIONS,
    GroupSpec,
    GroupState,
    Start,
)

from .api import CONSUMER_EXISTS, CONSUMER_MISSING, Api, Refused
from .layout import NANOSECONDS, STREAM, selected

INACTIVE = 60.0
"""Seconds after which a group without a name and without its member is forgotten."""

MAX_MEMBERS = 4096
"""Members of a group that can wait for events at once."""

_GROUP = "micro-group"
_TOPIC = "micro-topic"
_ORDERED = "micro-ordered"
_PART = "micro-partition"
_BEGINS = "micro-begins"


class Groups:
    """The groups of a namespace.

    Args:
        api: the engine.
        secret: what the names of their consumers are made with.
    """

    def __init__(self, api: Api, secret: bytes) -> None:
        self._api = api
        self._secret = secret
        self._making = asyncio.Lock()

    # Letting in.

    async def join(self, spec: GroupSpec) -> list[str]:
        """See `engine.Control.join`."""
        check_spec(spec)
        if not spec.name:
            return await self._alone(spec)
        async with self._making:
            found = await self._info(self._name(spec, 0))
            if found is None or _BEGINS in _notes(found):
                await self._make(spec)
                return self._names(spec)
            if _is_ordered(found) != spec.ordered:
                there = GroupSpec(spec.topic, spec.name, ordered=not spec.ordered)
                raise errors.Conflict("events", ordered_otherwise(there))
            if found["config"].get("ack_wait") != _nanoseconds(spec.ack_wait):
                await self._update(spec, found["config"])
            return self._names(spec)

    async def exists(self, spec: GroupSpec) -> bool:
        """Whether there is a group of that name."""
        return await self._info(self._name(spec, 0)) is not None

    async def leave(self, names: Iterable[str]) -> None:
        """Remove the consumers of a group without a name."""
        await asyncio.gather(*map(self._delete, names))

    async def _alone(self, spec: GroupSpec) -> list[str]:
        first = await self._place(spec.topic, spec.start)
        names = [secrets.token_hex(16) for _ in _parts(spec.ordered)]
        own = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(first, 1),
            "inactive_threshold": _nanoseconds(INACTIVE),
            "mem_storage": True,
            "num_replicas": 1,
        }
        await asyncio.gather(
            *(
                self._create({**_config(spec, name, part), **own})
                for name, part in zip(names, _parts(spec.ordered), strict=True)
            )
        )
        return names

    async def _make(self, spec: GroupSpec) -> None:
        """Make all consumers of a group, the first one last: with it there is the group."""
        first = await self._place(spec.topic, spec.start)
        named = list(zip(self._names(spec), _parts(spec.ordered), strict=True))
        await asyncio.gather(*(self._make_one(spec, *one, first) for one in named[1:]))
        await self._make_one(spec, *named[0], first)

    async def _make_one(self, spec: GroupSpec, name: str, part: int | None, first: int) -> None:
        config = {**_config(spec, name, part), "durable_name": name, "deliver_policy": "all"}
        if first > 1:
            # Until it was moved there it is not to be used: see `join`.
            begins = {**config["metadata"], _BEGINS: str(first)}
            await self._anew({**config, "metadata": begins})
            await self._api.ask(f"CONSUMER.RESET.{STREAM}.{name}", {"seq": first})
            await self._create(config, "update")
        else:
            await self._anew(config)

    async def _anew(self, config: dict[str, Any]) -> None:
        """Make a consumer, in place of one that is left of a group that is not there."""
        try:
            await self._create(config)
        except Refused as refused:
            if refused.code != CONSUMER_EXISTS:
                raise refused.error from None
            await self._delete(config["name"])
            await self._api.ask(*_creation(config))

    async def _create(self, config: dict[str, Any], action: str = "create") -> None:
        await self._api(*_creation(config, action))

    async def _update(self, spec: GroupSpec, config: dict[str, Any]) -> None:
        """Change how long members have, on all consumers."""
        for name, part in zip(self._names(spec), _parts(spec.ordered), strict=True):
            changed = {
                **{key: value for key, value in config.items() if key != "metadata"},
                **_config(spec, name, part),
                "durable_name": name,
            }
            await self._api.ask(*_creation(changed, "update"))

    # What there is.

    async def states(self) -> list[tuple[GroupSpec, GroupState]]:
        """All groups with a name."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        seen = 0
        while True:
            said = await self._api.ask(f"CONSUMER.LIST.{STREAM}", {"offset": seen})
            page = said.get("consumers") or []
            for one in page:
                notes = _notes(one)
                if notes.get(_GROUP):
                    found.setdefault((notes[_TOPIC], notes[_GROUP]), []).append(one)
            seen += len(page)
            if not page or seen >= said["total"]:
                break
        return [
            (GroupSpec(topic, name), _state(topic, name, parts))
            for (topic, name), parts in sorted(found.items())
        ]

    async def of(self, topic: str) -> list[GroupState]:
        """The groups that work a topic off."""
        return [state for spec, state in await self.states() if matches(spec.topic, topic)]

    async def on(self, pattern: str) -> list[GroupState]:
        """The groups on topics, or patterns of topics, that a pattern stands for."""
        return [
            state
            for spec, state in await self.states()
            if spec.topic == pattern or matches(pattern, spec.topic)
        ]

    # Moving and removing.

    async def reset(self, topic: str, group: str, start: Start) -> None:
        """See `interface.Log.reset`."""
        check_start(start)
        spec, _ = await self._known(topic, group)
        first = await self._place(topic, start)
        await asyncio.gather(
            *(
                self._api.ask(f"CONSUMER.RESET.{STREAM}.{name}", {"seq": max(first, 1)})
                for name in self._names(spec)
            )
        )

    async def forget(self, topic: str, group: str) -> None:
        """See `interface.Log.forget`."""
        async with self._making:
            spec, _ = await self._known(topic, group)
            # The first one first: without it there is no group.
            first, *others = self._names(spec)
            await self._delete(first)
            await asyncio.gather(*map(self._delete, others))

    async def _known(self, topic: str, group: str) -> tuple[GroupSpec, dict[str, Any]]:
        spec = check_spec(GroupSpec(topic, group))
        found = await self._info(self._name(spec, 0)) if group else None
        if found is None:
            raise errors.NotFound("events", f"{topic} has no group {group}")
        return GroupSpec(topic, group, ordered=_is_ordered(found)), found

    # The engine.

    async def _place(self, topic: str, start: Start) -> int:
        """The sequence that a group begins with."""
        if start.beginning:
            return 0
        if start.sequence:
            return start.sequence
        # Asked first, so that what is stored between the two answers is after it, and not skipped.
        last = await self._api.last()
        found = await self._api.since(selected(topic), start.time) if start.time else 0
        return found or last + 1

    async def _info(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._api(f"CONSUMER.INFO.{STREAM}.{name}")
        except Refused as refused:
            if refused.code == CONSUMER_MISSING:
                return None
            raise refused.error from None

    async def _delete(self, name: str) -> None:
        try:
            await self._api(f"CONSUMER.DELETE.{STREAM}.{name}")
        except Refused as refused:
            if refused.code != CONSUMER_MISSING:
                raise refused.error from None

    def _names(self, spec: GroupSpec) -> list[str]:
        return [self._name(spec, part or 0) for part in _parts(spec.ordered)]

    def _name(self, spec: GroupSpec, part: int) -> str:
        text = f"{spec.topic}\0{spec.name}\0{part}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]


def _parts(ordered: bool) -> Iterable[int | None]:
    return range(PARTITIONS) if ordered else (None,)


def _config(spec: GroupSpec, name: str, part: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "ack_policy": "explicit",
        "ack_wait": _nanoseconds(spec.ack_wait),
        "max_deliver": -1,
        "max_ack_pending": MAX_PENDING if part is None else 1,
        "max_waiting": MAX_MEMBERS,
        "filter_subjects": [selected(spec.topic, part)],
        "metadata": {
            _GROUP: spec.name,
            _TOPIC: spec.topic,
            _ORDERED: "" if part is None else "yes",
            _PART: str(part or 0),
        },
    }


def _creation(config: dict[str, Any], action: str = "create") -> tuple[str, dict[str, Any]]:
    body = {"stream_name": STREAM, "config": config, "action": action}
    return f"CONSUMER.CREATE.{STREAM}.{config['name']}", body


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def _notes(info: dict[str, Any]) -> dict[str, str]:
    return info["config"].get("metadata") or {}


def _is_ordered(info: dict[str, Any]) -> bool:
    return bool(_notes(info).get(_ORDERED))


def _state(topic: str, name: str, parts: list[dict[str, Any]]) -> GroupState:
    return GroupState(
        name,
        topic,
        _is_ordered(parts[0]),
        sum(one.get("num_pending", 0) for one in parts),
        sum(one.get("num_ack_pending", 0) for one in parts),
        max(one.get("num_waiting", 0) for one in parts),
    )
