"""A whole microservices cloud in one Python package.

Names are imported when first used: a command line that only needs the version, or one word,
does not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microcosmos.base import errors
    from microcosmos.base.context import Context, Metadata, carrying, current
    from microcosmos.broker import Message
    from microcosmos.events import Event, Reject
    from microcosmos.service import Client, Connection, Service, connect, run

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Connection",
    "Context",
    "Event",
    "Message",
    "Metadata",
    "Reject",
    "Service",
    "carrying",
    "connect",
    "current",
    "errors",
    "run",
]

_HOMES = {
    "Client": "microcosmos.service",
    "Connection": "microcosmos.service",
    "Service": "microcosmos.service",
    "connect": "microcosmos.service",
    "run": "microcosmos.service",
    "Context": "microcosmos.base.context",
    "Metadata": "microcosmos.base.context",
    "carrying": "microcosmos.base.context",
    "current": "microcosmos.base.context",
    "Event": "microcosmos.events",
    "Message": "microcosmos.broker",
    "Reject": "microcosmos.events",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("microcosmos.base.errors")
    if home := _HOMES.get(name):
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'microcosmos' has no attribute {name!r}")
