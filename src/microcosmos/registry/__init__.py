"""Who is alive, with which endpoints."""

from .interface import REFRESH, TTL, Endpoint, Node, Options, Registry, Result, Service
from .table import Table, this_host

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
