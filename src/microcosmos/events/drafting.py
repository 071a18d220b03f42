"""Drafting: what an author publishes, as an event of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microcosmos.base import errors, payload
from microcosmos.broker.headers import travelling

from .checks import check_metadata
from .interface import Draft
from .moments import Moment, seconds
from .schema import Contracts


async def drafted(
    contracts: Contracts | None,
    topic: str,
    message: Any,
    *,
    metadata: Mapping[str, str] | None = None,
    timestamp: Moment = 0,
    key: str = "",
    ttl: float = 0,
    id: str = "",
) -> Draft:
    """An event that is not published yet, checked by some contracts unless they are None.

    The other arguments and the errors are those of `Events.publish`.
    """
    told = travelling()
    if metadata:
        told.update(check_metadata(dict(metadata)))
    written, schema = await _written(contracts, topic, message)
    when = seconds(timestamp) if timestamp else 0
    return Draft(topic, written, id, key, told, when, ttl, schema)


async def _written(contracts: Contracts | None, topic: str, message: Any) -> tuple[bytes, int]:
    """A message as it is stored, and the id of its schema."""
    if isinstance(message, bytearray | memoryview):
        message = bytes(message)
    if contracts is not None:
        return await contracts.writing(topic, message)
    if isinstance(message, bytes):
        return message, 0
    try:
        return payload.encode(message), 0
    except (TypeError, ValueError, NotImplementedError, RecursionError) as exc:
        raise errors.BadRequest("events", f"{topic}: {exc}") from None
