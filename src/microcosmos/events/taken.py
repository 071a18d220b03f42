"""An event in the hands of a loop."""

from __future__ import annotations

from typing import Any

from .holding import Holding
from .interface import Delivery, Event, Group, GroupSpec


class Taken:
    """An event that a loop over `Events.consume` was given, with what can be said to it.

    It has all that `Event` has. Once something was said, more is ignored.
    """

    __slots__ = ("_delivery", "_group", "_held", "_settled", "event")

    def __init__(self, group: Group, held: Holding, delivery: Delivery) -> None:
        self.event: Event = delivery.event
        self._group = group
        self._held = held
        self._delivery = delivery
        self._settled = False

    def __repr__(self) -> str:
        return f"Taken({self.event!r}, attempt={self.attempt})"

    @property
    def id(self) -> str:
        """What its publisher called it."""
        return self.event.id

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self.event.topic

    @property
    def metadata(self) -> dict[str, str]:
        """The publisher's notes, Title-Cased."""
        return self.event.metadata

    @property
    def timestamp(self) -> float:
        """When it happened, in seconds since the epoch."""
        return self.event.timestamp

    @property
    def payload(self) -> bytes:
        """What was published, raw."""
        return self.event.payload

    @property
    def key(self) -> str:
        """Events of one key are in order; empty when it has none."""
        return self.event.key

    @property
    def sequence(self) -> int:
        """Its place in the namespace's log."""
        return self.event.sequence

    @property
    def attempt(self) -> int:
        """1 the first time that it is given to a member of the group."""
        return self._delivery.attempt

    @property
    def group(self) -> GroupSpec:
        """Whose event it is."""
        return self._group.spec

    def unmarshal(self, type: Any = Any) -> Any:
        """The payload's JSON as a type.

        Raises:
            errors.BadRequest: it is not of that type.
        """
        return self.event.unmarshal(type)

    async def ack(self, *, sync: bool = False) -> None:
        """Say that it is done with.

        Args:
            sync: return only once the engine has taken note: then it is never given out again.

        Raises:
            errors.Unavailable: the engine cannot be reached; another member is given it later.
        """
        if self._settle():
            await (self._group.ack_sync if sync else self._group.ack)(self._delivery)

    async def nack(self, delay: float = 0) -> None:
        """Give it back, to be given out again after so many seconds."""
        if self._settle():
            await self._group.nack(self._delivery, delay)

    async def reject(self, reason: str) -> None:
        """Put it among the dead letters, for good: nobody of the group is given it again."""
        if self._settle():
            await self._group.bury(self._delivery, reason)

    async def working(self) -> None:
        """Say that it is being worked on. A loop says so by itself, unless its thread is busy."""
        if not self._settled:
            await self._group.working(self._delivery)

    def _settle(self) -> bool:
        """Whether this is the first that is said."""
        if self._settled:
            return False
        self._settled = True
        self._held.drop(self._delivery)
        return True


def effect_of(group: GroupSpec) -> str:
    """What the effect of an event is noted under in an inbox: groups of one name may be several."""
    return f"{group.name} {group.topic}"
