"""What services were given and have not worked off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from microcosmos.service import Platform, Service

from .clock import MovingClock

QUIET = 10
"""Turns of the loop in which nobody works, after which those that wait are waiting for the time."""

PAUSE = 0.002
"""Seconds between two looks while somebody works."""


class Settling:
    """Waits until services have worked off what they were given.

    Args:
        platform: what they run on.
        clock: what is put forward while they only wait; None for the real time.
    """

    def __init__(self, platform: Platform, clock: MovingClock | None) -> None:
        self._platform = platform
        self._clock = clock

    async def settle(self, services: Iterable[Service], seconds: float) -> None:
        """Wait until all is worked off.

        Raises:
            TimeoutError: it was not in so many seconds; the text has what is left.
        """
        running = [one for one in services if one.running]
        told = "the platform does not answer"
        try:
            async with asyncio.timeout(seconds):
                await self._heard()
                while True:
                    before = _handled(running)
                    at_work, given = await self._at_work(running), await self._given(running)
                    at_work += _handling(running)
                    if not at_work and not given and _handled(running) == before:
                        return
                    told = "; ".join([*at_work, *given])
                    await self._meanwhile(running, waiting=bool(given) and not at_work)
        except TimeoutError:
            raise TimeoutError(f"not worked off after {seconds:g} s: {told}") from None

    async def _heard(self) -> None:
        """Let what was published before come in: a message of our own comes after it."""
        came = asyncio.Event()
        topic = f"microcosmos.testing.{id(came)}"
        heard = await self._platform.broker.subscribe(topic, lambda _: came.set())
        await self._platform.broker.publish(topic, b"")
        await came.wait()
        await heard.close()
        for _ in range(QUIET):
            await asyncio.sleep(0)

    async def _at_work(self, services: list[Service]) -> list[str]:
        """Outboxes with events, a text each."""
        unsent = [(one.name, await one.events.unsent()) for one in services]
        return [f"{number} events in the outbox of {name}" for name, number in unsent if number]

    async def _given(self, services: list[Service]) -> list[str]:
        """Groups with events, a text each."""
        specs = {one.spec for service in services for one in service.consumers}
        ours = {(one.name, one.topic) for one in specs}
        return [
            f"{one.name} of {one.topic}: {one.lag} events wait, {one.pending} are given out"
            for one in (await self._platform.events.groups() if ours else ())
            if (one.name, one.topic) in ours and one.lag + one.pending
        ]

    async def _meanwhile(self, services: list[Service], *, waiting: bool) -> None:
        """Let them work; if nobody does, let the time pass that they wait for."""
        before = _handled(services)
        for _ in range(QUIET):
            await asyncio.sleep(0)
        busy = any(one.busy for service in services for one in service.consumers)
        if waiting and not busy and _handled(services) == before and self._clock is not None:
            await self._clock.skip()
        else:
            await asyncio.sleep(PAUSE)


def _handling(services: list[Service]) -> list[str]:
    """Subscribers with messages, a text each."""
    found = [
        (f"{service.name}.{one.recipient.name}", one.busy)
        for service in services
        for one in service.subscribers
    ]
    return [f"{name}: {busy} messages" for name, busy in found if busy]


def _handled(services: list[Service]) -> int:
    """Grows with whatever is handled."""
    counts = [one.counts for service in services for one in service.consumers]
    events = sum(one.processed + one.failed + one.buried for one in counts)
    return events + sum(one.handled for service in services for one in service.subscribers)
