"""What a schema breaks, by the mode that it is held to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from microcosmos.base import codec, errors

from .compatibility import compare
from .interface import INCOMPATIBLE, Breach, Consumer, Mode, Problem, Reader, is_response
from .kept import KeptSubject, KeptVersion


class Older(msgspec.Struct, frozen=True):
    """A version that another is held against, with its schema."""

    number: int
    schema: Any


def held_against(kept: KeptSubject, mode: Mode) -> list[KeptVersion]:
    """The versions that a new one is held against, the newest first."""
    if mode == "NONE":
        return []
    return kept.active[::-1] if mode.endswith("_TRANSITIVE") else kept.active[-1:]


async def of_versions(
    subject: str, mode: Mode, schema: Any, olders: Iterable[Older]
) -> list[Breach]:
    """What a new schema breaks of versions before it."""
    backward, forward = _directions(subject, mode)
    found = []
    for one in olders:
        named = f"version {one.number}"
        if backward and (problems := await _compared(schema, one.schema)):
            found.append(Breach(f"what {named} wrote cannot be read", problems, one.number))
        if forward and (problems := await _compared(one.schema, schema)):
            found.append(Breach(f"who reads by {named} cannot read it", problems, one.number))
    return found


async def of_consumers(schema: Any, consumers: Iterable[Consumer]) -> list[Breach]:
    """Those who cannot read what is written by a schema."""
    found = []
    for one in consumers:
        if problems := await _read(one.schema, schema):
            side = f"consumer {one.group} of {one.service} cannot read it"
            found.append(Breach(side, problems, consumer=one))
    return found


async def of_reader(
    service: str, reader: Reader, schema: Any, what: str, version: int = 0
) -> list[Breach]:
    """That a reader cannot read what is written by a schema."""
    if problems := await _read(reader.schema, schema):
        side = f"consumer {reader.group} of {service} cannot read {what}"
        return [Breach(side, problems, version)]
    return []


def refuse(what: str, mode: Mode, breaches: Sequence[Breach]) -> None:
    """Refuse what breaks anything.

    Raises:
        errors.Conflict: the detail names the first that breaks, in one line.
    """
    if breaches:
        more = f"; {len(breaches) - 1} more" if len(breaches) > 1 else ""
        raise errors.Conflict(INCOMPATIBLE, f"{what} ({mode}): {breaches[0]}{more}")


async def _read(reader: str, writer: Any) -> tuple[Problem, ...]:
    return await _compared(codec.decode(reader), writer) if reader else ()


async def _compared(reader: Any, writer: Any) -> tuple[Problem, ...]:
    # In a thread: large schemas take their time, and others are to be served meanwhile.
    return tuple(await asyncio.to_thread(compare, reader, writer))


def _directions(subject: str, mode: Mode) -> tuple[bool, bool]:
    """Whether the new version has to read what was written, and be read by who read before.

    What an endpoint gives is read by its callers: for them, going on with a new version means what
    for a reader of a topic is going on with an old one.
    """
    kind = mode.removesuffix("_TRANSITIVE")
    backward, forward = kind in ("BACKWARD", "FULL"), kind in ("FORWARD", "FULL")
    return (forward, backward) if is_response(subject) else (backward, forward)
