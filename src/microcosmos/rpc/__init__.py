"""Servers, endpoints and clients over memory, the same-host lane and NATS.

Names are imported when first used: a command line that only calls over the lane needs no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .interface import (
    DEFAULT_TIMEOUT,
    MAX_BODY,
    Call,
    Handler,
    Middleware,
    Resolver,
    Stream,
    StreamHandler,
    Transport,
    Unreachable,
)

if TYPE_CHECKING:
    from .client import Client
    from .memory import MemoryNetwork
    from .server import Endpoint, Hosted, Server, Verifier

__all__ = [
    "DEFAULT_TIMEOUT",
    "MAX_BODY",
    "Call",
    "Client",
    "Endpoint",
    "Handler",
    "Hosted",
    "MemoryNetwork",
    "Middleware",
    "Resolver",
    "Server",
    "Stream",
    "StreamHandler",
    "Transport",
    "Unreachable",
    "Verifier",
]

_HOMES = {"Client": ".client", "MemoryNetwork": ".memory"}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'microcosmos.rpc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, ".server"), __name__), name)
