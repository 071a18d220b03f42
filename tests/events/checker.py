"""Checker: keeps a journal of what was promised, and says what of it does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from microcosmos.events.interface import Event, Receipt


class Journal:
    """What publishers were promised, and which effects members had."""

    def __init__(self) -> None:
        self.promised: dict[str, list[str]] = {}
        self.effects: list[tuple[str, str]] = []

    def acknowledged(self, key: str, receipt: Receipt) -> None:
        """A publisher was told that an event of a key is durable."""
        self.promised.setdefault(key, []).append(receipt.id)

    def worked(self, event: Event) -> None:
        """A member had the effect of an event."""
        self.effects.append((event.key, event.id))

    def lost(self, log: Iterable[Event]) -> list[str]:
        """Acknowledged events that are not in the log."""
        there = {event.id for event in log}
        return [id for ids in self.promised.values() for id in ids if id not in there]

    def twice(self, log: Iterable[Event]) -> list[str]:
        """Events that are in the log more than once."""
        return [id for id, times in Counter(event.id for event in log).items() if times > 1]

    def disordered(self, log: Iterable[Event]) -> list[str]:
        """Keys whose events are not in the log in the order in which they were published."""
        there: dict[str, list[str]] = {}
        for event in log:
            there.setdefault(event.key, []).append(event.id)
        return [key for key, ids in self.promised.items() if there.get(key, []) != ids]

    def missed(self) -> list[str]:
        """Acknowledged events that nobody worked off."""
        done = {id for _, id in self.effects}
        return [id for ids in self.promised.values() for id in ids if id not in done]

    def jumped(self) -> list[str]:
        """Keys whose effects were not in order: each event's first one counts."""
        firsts: dict[str, list[str]] = {}
        for key, id in dict.fromkeys(self.effects):
            firsts.setdefault(key, []).append(id)
        return [
            key
            for key, ids in self.promised.items()
            if [id for id in firsts.get(key, []) if id in set(ids)] != ids
        ]
