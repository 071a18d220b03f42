"""Verifying: whether a function is to the byte what was deployed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Store

from . import versions
from .heads import Found, Head, Tables
from .limits import Allowance
from .versions import Chain, Kept, Link


async def verify(tables: Tables, found: Found, allowance: Allowance) -> tuple[list[str], int]:
    """What is wrong with the chain of versions, and how many there are.

    Args:
        tables: where functions are kept.
        found: the function.
        allowance: of its account.
    """
    head = found.head
    chain = Chain(found.which)
    problems: list[str] = []
    shared: dict[int, Kept] = {}
    wanted = {share.number for share in head.shares}
    async for link in _links(tables, found):
        problems += chain.add(link)
        if link.number in wanted and link.record is not None:
            with contextlib.suppress(*codec.DECODE_ERRORS):
                shared[link.number] = msgspec.json.decode(link.record, type=Kept)
        # There may be many, and others wait.
        await asyncio.sleep(0)
    if (chain.number, chain.hash) != (head.number, head.hash):
        problems.append(f"the newest version is not v{head.number}, as the function has it")
    for share in head.shares:
        kept = shared.get(share.number)
        if kept is None or share.key != _key(kept, head, allowance):
            problems.append(f"v{share.number} gets requests, and is not what runs")
    return problems, head.number


def _key(kept: Kept, head: Head, allowance: Allowance) -> str:
    limits = allowance.limits(kept.version.limits)
    return versions.key_of(kept.version, head.secrets, limits)


async def _links(tables: Tables, found: Found) -> AsyncIterator[Link]:
    """The records of all versions that there are any of, by number."""
    parts = tables.versions, tables.sources, tables.code
    prefix = found.which.prefix
    keys = {key for table in parts for key in await table.list(prefix)}
    for key in sorted(keys):
        record, sources, code = [await _bytes(table, key) for table in parts]
        yield Link(int(key.removeprefix(prefix)), record, sources, code)


async def _bytes(table: Store, key: str) -> bytes | None:
    try:
        return (await table.read(key)).value
    except errors.NotFound:
        return None
