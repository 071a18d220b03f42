"""Topics that remember: durable, ordered, replayable events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .interface import MAX_PAYLOAD, Draft, Event, Log, Receipt

if TYPE_CHECKING:
    from .consuming import Backoff, Reject
    from .events import Events
    from .taken import Taken
    from .transactions.transaction import Transaction

__all__ = [
    "MAX_PAYLOAD",
    "Backoff",
    "Draft",
    "Event",
    "Events",
    "Log",
    "Receipt",
    "Reject",
    "Taken",
    "Transaction",
]

# Those that work with a store are imported when they are first used: a command line has none.
_HOMES = {
    "Backoff": "consuming",
    "Events": "events",
    "Reject": "consuming",
    "Taken": "taken",
    "Transaction": "transactions.transaction",
}


def __getattr__(name: str) -> Any:
    import importlib

    if home := _HOMES.get(name):
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
