"""Dead letters: events that a group has given up, in a stream of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from microcosmos.events.interface import DeadLetter, Delivery, GroupSpec

from .api import BATCH, MESSAGE_MISSING, Api, Found, Refused
from .layout import (
    DEAD,
    DEAD_SUBJECT,
    GROUP,
    ID,
    KEY,
    NAME,
    SCHEMA,
    TIMESTAMP,
    event_of,
    number,
    subject,
)
from .publisher import Publisher

_REASON = "Micro-Reason"
_ATTEMPTS = "Micro-Attempts"
_SEQUENCE = "Micro-Sequence"


def letter(spec: GroupSpec, delivery: Delivery, reason: str) -> tuple[str, bytes, dict[str, str]]:
    """A dead letter as it is published: its subject, body and headers."""
    event = delivery.event
    headers = dict(event.metadata)
    if event.key:
        headers[KEY] = event.key
    if event.schema:
        headers[SCHEMA] = str(event.schema)
    headers |= {
        NAME: event.id,
        GROUP: spec.name,
        TIMESTAMP: repr(event.timestamp),
        _REASON: "".join(one if one.isprintable() else "?" for one in reason),
        _ATTEMPTS: str(delivery.attempt),
        _SEQUENCE: str(event.sequence),
        # A member that cannot acknowledge it afterwards, and buries it again, leaves one letter.
        ID: f"{spec.name} {spec.topic} {event.sequence}",
    }
    return DEAD_SUBJECT + event.topic, event.payload, headers


class Letters:
    """The dead letters of a namespace.

    Args:
        api: the engine.
        publisher: gives them to their groups again.
    """

    def __init__(self, api: Api, publisher: Publisher) -> None:
        self._api = api
        self._publisher = publisher

    async def read(self, pattern: str, group: str, limit: int, after: int) -> list[DeadLetter]:
        """See `interface.Log.dead`."""
        found: list[DeadLetter] = []
        async for one in self._of(pattern, group, after, limit):
            found.append(_letter(one))
            if len(found) == limit:
                break
        return found

    async def redrive(self, pattern: str, group: str, numbers: Collection[int]) -> int:
        """See `interface.Log.redrive`."""
        done = 0
        # Those that die again meanwhile are left for another time.
        last = int((await self._api.ask(f"STREAM.INFO.{DEAD}"))["state"]["last_seq"])
        after = min(numbers) - 1 if numbers else 0
        async for one in self._of(pattern, group, after):
            if one.sequence > (max(numbers) if numbers else last):
                break
            if not numbers or one.sequence in numbers:
                await self._again(one)
                done += 1
        return done

    async def _of(
        self, pattern: str, group: str, after: int, limit: int = BATCH
    ) -> AsyncIterator[Found]:
        while page := await self._api.read(DEAD, after, limit, DEAD_SUBJECT + pattern):
            after = page[-1].sequence
            for one in page:
                if group in ("", one.headers.get(GROUP, "")):
                    yield one

    async def _again(self, found: Found) -> None:
        """Publish what a letter holds, for its group alone, and then remove the letter."""
        dead = (_REASON, _ATTEMPTS, _SEQUENCE)
        headers = {name: value for name, value in found.headers.items() if name not in dead}
        # The same letter twice is one event; another letter of the same event is another.
        headers[ID] = f"letter {found.sequence} {headers.get(NAME, '')}"
        where = subject(found.subject.removeprefix(DEAD_SUBJECT), headers.get(KEY, ""))
        await self._publisher.store(where, found.payload, headers)
        try:
            await self._api(f"STREAM.MSG.DELETE.{DEAD}", {"seq": found.sequence, "no_erase": True})
        except Refused as refused:
            if refused.code != MESSAGE_MISSING:
                raise refused.error from None


def _letter(found: Found) -> DeadLetter:
    headers = found.headers
    topic = found.subject.removeprefix(DEAD_SUBJECT)
    sequence = int(number(headers.get(_SEQUENCE, "")))
    event = event_of(topic, found.payload, headers, sequence, found.stored)
    return DeadLetter(
        event,
        headers.get(GROUP, ""),
        headers.get(_REASON, ""),
        int(number(headers.get(_ATTEMPTS, ""))),
        found.stored,
        found.sequence,
    )
