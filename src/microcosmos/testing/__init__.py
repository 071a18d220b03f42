"""For tests of services: a pytest plugin, and platforms in memory and on a real NATS.

Every pytest run of an environment imports this package for its plugin, so the rest of it is
imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import nats_server
    from .platform import Bench, memory, on_nats

__all__ = ["Bench", "memory", "nats_server", "on_nats"]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'microcosmos.testing' has no attribute {name!r}")
    home = ".engine" if name == "nats_server" else ".platform"
    return getattr(importlib.import_module(home, __name__), name)
