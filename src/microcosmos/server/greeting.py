"""The line that a NATS server greets with: whether it answers, who it is, how old it is."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from microcosmos.base import errors

FLOOR = (2, 15, 1)
"""Older engines lose acknowledged messages: reliability.md has the list."""

_LIMIT = 1.0


async def greeting(host: str, port: int) -> dict[str, Any] | None:
    """The INFO of the server at an IP address, or None if none answers there.

    Never a name: asyncio would look it up in a thread, and the supervisor must have none.
    """
    try:
        async with asyncio.timeout(_LIMIT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                line = await reader.readline()
            finally:
                writer.close()
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=dict[str, Any])
    except (OSError, TimeoutError, ValueError):
        return None


def require_floor(version: str, whose: str) -> None:
    """Refuse an engine that is known to lose messages.

    Raises:
        errors.Unavailable: it is older than `FLOOR`, or tells no version.
    """
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < FLOOR:
        floor = ".".join(map(str, FLOOR))
        told = found.group() if found else "of no known version"
        raise errors.Unavailable(
            "server.engine", f"nats-server {whose} is {told}; {floor} or later is needed"
        )
