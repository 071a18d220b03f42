"""What the commands of events ask of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors
from microcosmos.events import wire
from microcosmos.events.interface import MAX_PAYLOAD

T = TypeVar("T")

_LARGEST = (MAX_PAYLOAD + 1024 * 1024) * 4 // 3 + wire.PIECE


class Caller(Protocol):
    """Opens streams."""

    def stream(
        self, service: str, endpoint: str, body: bytes, *, items: Iterable[bytes] = ()
    ) -> Iterator[bytes]: ...


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    @property
    def caller(self) -> Caller: ...

    def core(
        self, service: str, endpoint: str, request: Any = None, *, timeout: float = 10.0
    ) -> bytes: ...

    def duration(self, text: str, where: str) -> float: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...


def ask(session: Session, endpoint: str, request: Any, *, timeout: float = 10.0) -> bytes:
    """Ask the service `events`; what it cannot read was typed wrongly."""
    try:
        return session.core(wire.NAME, endpoint, request, timeout=timeout)
    except errors.BadRequest as error:
        # A topic, a time or a name that cannot be is a word of the command line.
        raise click.UsageError(error.detail) from None


def scan(session: Session, endpoint: str, request: Any, kind: type[T]) -> Iterator[T]:
    """What a stream of the service `events` gives, put together from its pieces."""
    whole = wire.Whole(kind, _LARGEST)
    try:
        for message in session.caller.stream(wire.NAME, endpoint, codec.encode(request)):
            piece = msgspec.json.decode(message, type=wire.Piece)
            if (found := whole.add(piece)) is not None:
                yield found
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None


def number(answer: bytes) -> int:
    """How many, as an answer says it."""
    return msgspec.json.decode(answer, type=wire.Number).events


def counted(number: int) -> str:
    """Events and how many, in words."""
    return "1 event" if number == 1 else f"{number} events"


def kept(ttl: float) -> str:
    """How long events are kept, as it can be typed: ``720h``, ``90s``."""
    hours, rest = divmod(ttl, 3600)
    if hours and not rest:
        return f"{hours:.0f}h"
    return f"{ttl:.0f}s" if ttl else "for ever"
