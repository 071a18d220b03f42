"""How a service of the platform says what was changed, to whoever keeps the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Audit = Callable[[str, str, str], Awaitable[None]]
"""Notes a change: the action (``table granted``), what it was done to, and the rest, no secrets."""


async def unaudited(action: str, subject: str, detail: str) -> None:
    """Keep no log, as on a platform in memory."""
