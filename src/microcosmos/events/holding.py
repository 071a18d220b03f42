"""What a member has in its hands: kept from other members while it works, given back after."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock

from .interface import Delivery, Group

GIVE_BACK = 2.0
"""Seconds that a member that ends spends on giving back what it did not begin."""

BEATS = 3
"""How often in `GroupSpec.ack_wait` a member says that it is at work."""


class _Held:
    """A delivery, when it was last known to be this member's, and whether it is worked on."""

    __slots__ = ("begun", "delivery", "since")

    def __init__(self, delivery: Delivery, since: float) -> None:
        self.delivery = delivery
        self.since = since
        self.begun = False


class Holding:
    """The deliveries of a member that are not done with, entered while it is one.

    A process that was stopped for longer than ``ack_wait`` finds things in its hands that others
    have been given since. What it has begun it ends; the rest is theirs, or comes again.

    Args:
        group: whose.
        clock: what the beats go by.
    """

    def __init__(self, group: Group, clock: Clock = SYSTEM) -> None:
        self._group = group
        self._clock = clock
        self._held: dict[int, _Held] = {}
        self._beating: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, delivery: Delivery) -> None:
        """Keep it from others from now on."""
        self._held[id(delivery)] = _Held(delivery, self._clock.monotonic())

    def begin(self, delivery: Delivery) -> bool:
        """Begin to work on it, if it is still this member's; if not, it is forgotten."""
        held = self._held.get(id(delivery))
        if held is None or self._expired(held):
            self.drop(delivery)
            return False
        held.begun = True
        return True

    def _expired(self, held: _Held) -> bool:
        spec = self._group.spec
        return bool(spec.name) and self._clock.monotonic() - held.since >= spec.ack_wait

    def drop(self, delivery: Delivery) -> None:
        """It is done with."""
        self._held.pop(id(delivery), None)

    async def __aenter__(self) -> Holding:
        self._beating = asyncio.create_task(self._beat(), name="working")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
        with contextlib.suppress(errors.Error, TimeoutError):
            async with asyncio.timeout(GIVE_BACK):
                # The last one first: each goes in front of those that were given back before.
                for held in reversed(self._held.values()):
                    if held.begun or not self._expired(held):
                        await self._group.nack(held.delivery)
        self._held.clear()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._group.spec.ack_wait / BEATS)
            for held in list(self._held.values()):
                if not held.begun and self._expired(held):
                    self.drop(held.delivery)
                elif id(held.delivery) in self._held:
                    now = self._clock.monotonic()
                    # Said again at the next beat; without, another member has it in the end.
                    with contextlib.suppress(errors.Error):
                        await self._group.working(held.delivery)
                        held.since = now
