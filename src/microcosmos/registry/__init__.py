"""Who is alive, with which endpoints."""

from .interface import (
    REFRESH,
    TTL,
    Endpoint,
    Node,
    Options,
    Registry,
    Result,
    Service,
    this_host,
)
from .table import Table

__all__ = [
    "REFRESH",
    "TTL",
    "Endpoint",
    "Node",
    "Options",
    "Registry",
    "Result",
    "Service",
    "Table",
    "this_host",
]
