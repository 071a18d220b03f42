"""Checks of events as they are published and consumed, by schemas that are remembered."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Protocol

import jsonschema_rs
import msgspec

from microcosmos.base import codec, errors, payload
from microcosmos.events.interface import Event

from .closing import closed
from .document import misfit, validator
from .interface import Declaration
from .registry import Changed
from .types import schema_of
from .wire import NewestResponse

MAX_TOPICS = 65_536
"""Topics whose schemas a process remembers; one more, and it forgets them all."""

MAX_SCHEMAS = 4096
"""Schemas of events that a process remembers for reading; one more, and it forgets them all."""

PAUSE = 0.1
"""Seconds until changes that could not be followed are asked for again; they double."""

LONGEST_PAUSE = 1.0
"""The longest such pause, in seconds."""

_BYTES = (bytes, bytearray, memoryview)
# Values of these say nothing of what they are meant to be.
_PLAIN = frozenset((dict, list, tuple, set, frozenset, str, int, float, bool, type(None), *_BYTES))

log = logging.getLogger("microcosmos.events")


class Source(Protocol):
    """Where the schemas are."""

    async def newest(self, topic: str) -> NewestResponse: ...

    async def register(self, topic: str, schema: str, name: str) -> int: ...

    async def schema(self, id: int) -> str: ...

    async def declare(self, declaration: Declaration) -> None: ...

    def follow(self) -> AsyncGenerator[Changed, None]: ...


class _Typed:
    """A type as it is published to one topic: its schema's id, and what checks a payload."""

    __slots__ = ("check", "id")

    def __init__(self, id: int, check: Callable[[bytes], None]) -> None:
        self.id = id
        self.check = check


class _Topic:
    """What is known of a topic."""

    __slots__ = ("learning", "newest", "types")

    def __init__(self) -> None:
        self.learning = asyncio.Lock()
        self.newest: tuple[int, jsonschema_rs.Validator | None] | None = None
        self.types: dict[type, _Typed] = {}


class CachedContracts:
    """Checks events by what a source says, and remembers it until it changes; see `Contracts`.

    Changes are followed from the first check on until it is closed, or left when it was entered.
    While the source is away what is known stands: nothing changes there meanwhile.

    Args:
        source: where the schemas are.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._topics: dict[str, _Topic] = {}
        self._schemas: dict[int, jsonschema_rs.Validator] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> CachedContracts:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Follow changes no more; a check that comes later begins anew."""
        task, self._task = self._task, None
        self._forget()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def writing(self, topic: str, message: Any) -> tuple[bytes, int]:
        """See `Contracts.writing`."""
        kind = type(message)
        known = self._topics.get(topic)
        if kind in _PLAIN:
            return await self._plain(topic, known, message)
        typed = known.types.get(kind) if known is not None else None
        body = _encoded(topic, message)
        if typed is None:
            typed = await self._learn(topic, kind)
            if typed is None:
                return await self._plain(topic, self._topics.get(topic), body)
        typed.check(body)
        return body, typed.id

    async def reading(self, event: Event) -> None:
        """See `Contracts.reading`."""
        if not event.schema:
            return
        check = self._schemas.get(event.schema)
        if check is None:
            check = await self._load(event)
        _hold(event.topic, check, event.payload, f"schema {event.schema}")

    async def declare(self, declaration: Declaration) -> None:
        """See `Contracts.declare`."""
        await self._source.declare(declaration)

    async def _plain(self, topic: str, known: _Topic | None, message: Any) -> tuple[bytes, int]:
        newest = known.newest if known is not None else None
        if newest is None:
            newest = await self._newest(topic)
        id, check = newest
        body = bytes(message) if isinstance(message, _BYTES) else _encoded(topic, message)
        if check is not None:
            _hold(topic, check, body, "its schema")
        return body, id

    async def _newest(self, topic: str) -> tuple[int, jsonschema_rs.Validator | None]:
        known = self._topic(topic)
        async with known.learning:
            if known.newest is None:
                found = await self._source.newest(topic)
                schema = msgspec.json.decode(found.schema) if found.id else True
                check = validator(closed(schema)) if found.id else None
                known.newest = found.id, check
            return known.newest

    async def _learn(self, topic: str, kind: type) -> _Typed | None:
        """A type's schema, registered if it is new; None when the type may be anything."""
        schema = schema_of(kind)
        if not schema:
            return None
        known = self._topic(topic)
        async with known.learning:
            if (typed := known.types.get(kind)) is None:
                id = await self._source.register(topic, schema, kind.__name__)
                typed = known.types[kind] = _Typed(id, _checker(topic, kind, schema))
            return typed

    async def _load(self, event: Event) -> jsonschema_rs.Validator:
        self._start()
        try:
            text = await self._source.schema(event.schema)
        except errors.NotFound:
            detail = f"{event.topic}: the event's schema, {event.schema}, is unknown"
            raise errors.BadRequest("events", detail) from None
        if len(self._schemas) >= MAX_SCHEMAS:
            self._schemas.clear()
        check = self._schemas[event.schema] = validator(msgspec.json.decode(text))
        return check

    def _topic(self, topic: str) -> _Topic:
        self._start()
        known = self._topics.get(topic)
        if known is None:
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            known = self._topics[topic] = _Topic()
        return known

    def _forget(self) -> None:
        self._topics.clear()
        self._schemas.clear()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # A context of its own: it outlives the call that it may be started in.
            self._task = asyncio.create_task(
                self._follow(), name="schemas", context=contextvars.Context()
            )

    async def _follow(self) -> None:
        pause = PAUSE
        while True:
            try:
                async with contextlib.aclosing(self._source.follow()) as changes:
                    async for change in changes:
                        self._apply(change)
                        pause = PAUSE
            except errors.Error as error:
                log.debug("changes of schemas cannot be followed: %s", error)
            except msgspec.MsgspecError as error:
                log.warning("the platform tells schemas in another form: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _apply(self, change: Changed) -> None:
        if change.everything:
            self._forget()
        for subject in change.subjects:
            self._topics.pop(subject.removesuffix("-value"), None)


def _encoded(topic: str, message: Any) -> bytes:
    try:
        return payload.encode(message)
    except (TypeError, ValueError, NotImplementedError, UnicodeError, RecursionError) as exc:
        raise errors.BadRequest("events", f"{topic}: JSON cannot carry it: {exc}") from None


def _hold(topic: str, check: jsonschema_rs.Validator, body: bytes, by: str) -> None:
    """Refuse a payload that does not fit."""
    try:
        value = msgspec.json.decode(body)
    except codec.DECODE_ERRORS as exc:
        detail = (
            f"{topic} has a schema, and the payload is no JSON: {codec.bad_input('', exc).detail}"
        )
        raise errors.BadRequest("events", detail) from None
    if why := misfit(check, value):
        raise errors.BadRequest("events", f"{topic}: the payload does not fit {by}: {why}")


def _checker(topic: str, kind: type, schema: str) -> Callable[[bytes], None]:
    """What refuses a payload of a type that a reader of that type would refuse.

    A struct's fields may hold anything until it is read: reading it is the quickest check.
    """
    if hasattr(kind, "model_validate"):
        by_schema = validator(msgspec.json.decode(schema))
        return lambda body: _hold(topic, by_schema, body, kind.__name__)
    decode = payload.decoder(kind)

    def check(body: bytes) -> None:
        try:
            decode(body)
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            why = codec.bad_input("", exc).detail
            detail = f"{topic}: this {kind.__name__} is none that can be read: {why}"
            raise errors.BadRequest("events", detail) from None

    return check
