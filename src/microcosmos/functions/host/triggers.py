"""Triggers: what functions are run by beside requests, topics and times.

A topic is worked off by a durable group that is called like the function. A time is a schedule of
the events room, which publishes on a topic of the function's own; so a tick is an event, given to
one member of a group, kept while nobody is there, and tried again like any other.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, cast

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.recipient import Recipient
from microcosmos.events.consuming import Consumer
from microcosmos.events.interface import Delivery, Draft, Event, Group, GroupSpec, Log, Schedule
from microcosmos.events.schedule import check_schedule
from microcosmos.events.schema import Contracts
from microcosmos.functions.interface import Live
from microcosmos.store import Store

from .wishes import Wishes

TICK_KEPT = 86_400.0
"""Seconds that the event of a tick is kept."""

_CRON = "cron:"
_EVENTS = "events:"
_MADE = "functions."

Admit = Callable[[str, GroupSpec], Awaitable[None]]
"""Raises `errors.Forbidden` if a function, by its name, may not work a topic off."""

Tell = Callable[[str, str, str], None]
"""Writes into the log of a function: its name, a level, a text."""


class Runs(Protocol):
    """Runs functions; `running.Runner` does."""

    async def event(
        self, namespace: str, name: str, on: str, handler: str, event: dict[str, Any]
    ) -> None:
        """Let a function handle an event; returns when it has."""


class Triggers:
    """Sees that the functions of a namespace are run by what they want to be run by.

    Used as ``async with``.

    Args:
        namespace: whose.
        events: its log.
        runs: runs functions.
        admit: sees whether they may work a topic off.
        contracts: what events are checked by.
        client: what is told to be the process's own.
        tell: writes into their logs.
        kept: notes whose groups they are; without it, groups of functions that go while nobody is
            here stay.
    """

    def __init__(
        self,
        namespace: str,
        events: Log,
        runs: Runs,
        admit: Admit,
        *,
        contracts: Contracts | None = None,
        client: object | None = None,
        tell: Tell = lambda *_: None,
        kept: Store | None = None,
    ) -> None:
        self._namespace = namespace
        self._events = events
        self._runs = runs
        self._admit = admit
        self._contracts = contracts
        self._client = client
        self._tell = tell
        self._kept = kept
        self._consuming: dict[str, dict[str, AsyncExitStack]] = {}
        # By names, of what those have a group that may not run now.
        self._resting: dict[str, set[str]] = {}
        self._times: dict[str, str] | None = None
        self._said: dict[str, set[str]] = {}
        self._wishes: Wishes[Live | None] = Wishes(self._bring_about, "triggers")

    async def __aenter__(self) -> Triggers:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._wishes.close()
        # Together, as each may have to wait for what it works on.
        ending = [stack.aclose() for of in self._consuming.values() for stack in of.values()]
        await asyncio.gather(*ending)

    def follow(self, name: str, live: Live | None) -> None:
        """Have a function run soon by what it says; None is one that is no more."""
        known = name in self._consuming or name in self._resting
        if known or (live is not None and wanted(live)):
            self._wishes.wish(name, live)

    async def settled(self) -> None:
        """Wait until all is so."""
        await self._wishes.settled()

    async def tidy(self, known: Callable[[str], Live | None]) -> None:
        """Remove schedules and groups that no function wants any more: nobody was here to see it.

        Raises:
            errors.Unavailable: the events or the store are away.
        """
        for id in [*await self._schedules()]:
            name = id[len(_MADE) :].rpartition(".")[0]
            live = known(name)
            if id not in {schedule_id(name, when) for when in times(wanted(live) if live else ())}:
                await self._unschedule(id)
        for mark in await self._kept.list() if self._kept is not None else ():
            name, _, on = mark.partition(" ")
            live = known(name)
            wants = _wants(live) if live else []
            if on not in wants and on not in self._consuming.get(name, ()):
                await self._forget(name, on)

    async def _bring_about(self, name: str, live: Live | None) -> None:
        consuming = self._consuming.setdefault(name, {})
        wants = wanted(live) if live is not None else []
        due = times(wants)
        # What it is to consume: by each of it, the topic.
        topics = {one: one.removeprefix(_EVENTS) for one in wants if one.startswith(_EVENTS)}
        if due:
            topics[_CRON] = topic_of(name)
        for on in [one for one in consuming if one not in topics]:
            await consuming.pop(on).aclose()
            await self._forget(name, on)
        for on in self._resting.pop(name, set()) - topics.keys():
            await self._forget(name, on)
        failures: list[errors.Error] = []
        rests = live is not None and live.spent is not None
        for on, topic in topics.items():
            if on not in consuming:
                spec = GroupSpec(topic, name)
                with self._told(name, on if on != _CRON else "times", failures):
                    await self._admitted(name, on, spec)
                    if not rests:
                        consuming[on] = await self._consume(name, on, spec)
                    else:
                        # From now on events wait for its group.
                        async with self._events.group(spec):
                            pass
        await self._schedule(name, due, failures)
        if rests:
            self._resting[name] = set(topics)
            await self._rest(consuming)
        if failures:
            raise failures[0]
        self._said.pop(name, None)
        if not consuming:
            self._consuming.pop(name, None)

    async def _rest(self, consuming: dict[str, AsyncExitStack]) -> None:
        """Give a function no events while a quota is used up: they wait for its groups."""
        ending = [consuming.pop(on).aclose() for on in [*consuming]]
        await asyncio.gather(*ending)

    @contextlib.contextmanager
    def _told(self, name: str, on: str, failures: list[errors.Error]) -> Iterator[None]:
        """Say in a function's log, once, why it is not run by something."""
        try:
            yield
        except (errors.BadRequest, errors.Forbidden, errors.Conflict) as error:
            failures.append(error)
            said = f"it cannot be run by {on}: {error.detail}"
            if said not in self._said.setdefault(name, set()):
                self._said[name].add(said)
                self._tell(name, "error", said)

    async def _admitted(self, name: str, on: str, spec: GroupSpec) -> None:
        """See that a function may have a group."""
        if on != _CRON:
            await self._admit(name, spec)
        if self._kept is not None:
            # Before there is a group: what is not noted would not be found again.
            await self._kept.set(_mark(name, on), "")

    async def _consume(self, name: str, on: str, spec: GroupSpec) -> AsyncExitStack:
        """Work a topic off from now on, until what is returned is closed."""
        attempts: dict[int, int] = {}
        recipient = Recipient(self._handler(name, on, attempts), Event)
        consumer = Consumer(recipient, spec, contracts=self._contracts)
        log = cast("Log", _Counting(self._events, attempts))
        stack = AsyncExitStack()
        await stack.enter_async_context(
            consumer.on(log, namespace=self._namespace, client=self._client)
        )
        return stack

    def _handler(
        self, name: str, on: str, attempts: dict[int, int]
    ) -> Callable[[Event], Awaitable[None]]:
        async def consume(event: Event) -> None:
            attempt = attempts.pop(event.sequence, 1)
            told = consumed(event, attempt)
            await self._runs.event(self._namespace, name, on, "consume", told)

        async def tick(event: Event) -> None:
            attempts.pop(event.sequence, None)
            when = event.unmarshal(_Tick).cron
            told = {"cron": when, "scheduledTime": round(event.timestamp) * 1000}
            await self._runs.event(self._namespace, name, _CRON + when, "scheduled", told)

        return tick if on == _CRON else consume

    async def _forget(self, name: str, on: str) -> None:
        """A function is not run by something any more."""
        with contextlib.suppress(errors.NotFound):
            if on == _CRON:
                await self._events.delete(topic_of(name))
            else:
                await self._events.forget(on.removeprefix(_EVENTS), name)
        if self._kept is not None:
            await self._kept.delete(_mark(name, on))

    async def _schedule(self, name: str, due: Sequence[str], failures: list[errors.Error]) -> None:
        """Have the schedules of a function so."""
        if not due and self._times is None:
            return
        there = await self._schedules()
        mine = f"{_MADE}{name}."
        kept = {schedule_id(name, when): when for when in due}
        for id in [one for one in there if one.startswith(mine) and "." not in one[len(mine) :]]:
            if id not in kept:
                await self._unschedule(id)
        for id, when in kept.items():
            draft = Draft(topic_of(name), codec.encode(_Tick(when)), ttl=TICK_KEPT)
            with self._told(name, f"{_CRON}{when}", failures):
                made = check_schedule(Schedule(id, draft, when))
                # One that is there is left alone: of `@every` the time would begin anew.
                if there.get(id) != made.when:
                    await self._events.schedule(made)
                    there[id] = made.when

    async def _schedules(self) -> dict[str, str]:
        """The schedules that were made for functions: when each is due, by its id."""
        if self._times is None:
            found = await self._events.schedules()
            self._times = {one.id: one.when for one in found if _is_ours(one)}
        return self._times

    async def _unschedule(self, id: str) -> None:
        with contextlib.suppress(errors.NotFound):
            await self._events.unschedule(id)
        if self._times is not None:
            self._times.pop(id, None)


class _Tick(msgspec.Struct):
    """The payload of a tick's event."""

    cron: str


class _Counting:
    """A log whose groups note how often each event was given out.

    Args:
        events: the log.
        attempts: where they note it, by the event's sequence.
    """

    def __init__(self, events: Log, attempts: dict[int, int]) -> None:
        self._events = events
        self._attempts = attempts

    @asynccontextmanager
    async def group(self, spec: GroupSpec) -> AsyncIterator[Group]:
        """See `Log.group`."""
        async with self._events.group(spec) as group:
            yield _Counted(group, self._attempts)


class _Counted:
    """A group that notes how often each event was given out; see `interface.Group`."""

    def __init__(self, group: Group, attempts: dict[int, int]) -> None:
        self._attempts = attempts
        self._pull = group.pull
        self.spec = group.spec
        self.ack = group.ack
        self.ack_sync = group.ack_sync
        self.nack = group.nack
        self.working = group.working
        self.bury = group.bury

    async def pull(self, limit: int) -> Sequence[Delivery]:
        found = await self._pull(limit)
        for delivery in found:
            self._attempts[delivery.event.sequence] = delivery.attempt
        return found


def wanted(live: Live) -> list[str]:
    """What any version of a function that gets requests is to be run by."""
    return list(dict.fromkeys(on for share in live.shares for on in share.on))


def times(wants: Iterable[str]) -> list[str]:
    """The times among what a function is run by."""
    return [one.removeprefix(_CRON) for one in wants if one.startswith(_CRON)]


def _wants(live: Live) -> list[str]:
    """What a function consumes: topics, and its own ticks if it has times."""
    wants = wanted(live)
    ticks = [_CRON] if times(wants) else []
    return [*(one for one in wants if one.startswith(_EVENTS)), *ticks]


def _mark(name: str, on: str) -> str:
    """The key by which it is noted that a function consumes something."""
    return f"{name} {on}"


def topic_of(name: str) -> str:
    """Where the ticks of a function are published."""
    return f"{_MADE}{name}.cron"


def schedule_id(name: str, when: str) -> str:
    """What a schedule of a function is called."""
    return f"{_MADE}{name}.{hashlib.sha256(when.encode()).hexdigest()[:12]}"


def consumed(event: Event, attempt: int) -> dict[str, Any]:
    """An event as functions see it; a payload that is no JSON is base64."""
    told: dict[str, Any] = {
        "topic": event.topic,
        "id": event.id,
        "key": event.key,
        "metadata": event.metadata,
        "timestamp": _rfc3339(event.timestamp),
        "attempt": attempt,
    }
    try:
        told["payload"] = msgspec.json.decode(event.payload)
    except codec.DECODE_ERRORS:
        told["payload"] = base64.b64encode(event.payload).decode()
        told["encoding"] = "base64"
    return told


def _rfc3339(moment: float) -> str:
    when = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_ours(schedule: Schedule) -> bool:
    name, _, digest = schedule.id.removeprefix(_MADE).rpartition(".")
    ours = schedule.id.startswith(_MADE) and bool(name and digest)
    return ours and schedule.draft.topic == topic_of(name)
