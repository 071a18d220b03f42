"""For tests of services: a pytest plugin, platforms in memory and on a real NATS, clusters.

Every pytest run of an environment imports this package for its plugin, so the rest of it is
imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import nats_server
    from .nodes import Cluster, Node, cluster
    from .platform import Bench, memory, on_nats

__all__ = ["Bench", "Cluster", "Node", "cluster", "memory", "nats_server", "on_nats"]

_HOMES = {
    "Cluster": ".nodes",
    "Node": ".nodes",
    "cluster": ".nodes",
    "nats_server": ".engine",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'microcosmos.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, ".platform"), __name__), name)
