"""Servers, endpoints and clients over memory, the same-host lane and NATS."""

from .client import Client
from .interface import (
    DEFAULT_TIMEOUT,
    MAX_BODY,
    Call,
    Handler,
    Middleware,
    Resolver,
    Transport,
    Unreachable,
)
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
    "Transport",
    "Unreachable",
    "Verifier",
]
