"""``Debug`` of Micro v3, which every process answered under its service's own name.

``/helloworld.Debug/Health`` and ``/helloworld.Debug/Stats`` are answered here for every service,
foreign ones too: by what the registry knows, and by the counters that each replica gives by the
NATS services protocol. Those have no memory, threads and garbage collections: they are 0.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
from nats.aio.client import Client as NatsClient

from microcosmos.base import codec, errors, names
from microcosmos.registry import Table
from microcosmos.registry.question import ask

HANDLER = "Debug"
NAME = "debug"

_SERVICE = "micro.service"


class _Endpoint(msgspec.Struct):
    num_requests: int = 0
    num_errors: int = 0


class Stats(msgspec.Struct):
    """What one replica has counted, as ADR-32 has it."""

    started: datetime
    metadata: dict[str, str] | None = None
    endpoints: list[_Endpoint] | None = None


Ask = Callable[[str], Awaitable[list[Stats]]]
"""Gives what each living replica of a service has counted."""


def by_nats(nc: NatsClient) -> Ask:
    """Ask the replicas themselves."""

    async def ask_all(service: str) -> list[Stats]:
        announced = names.announced(service)
        found = []
        for msg in await ask(nc, f"$SRV.STATS.{announced}"):
            try:
                stats = msgspec.json.decode(msg.data, type=Stats)
            except codec.DECODE_ERRORS:
                continue
            # Others may be announced alike; a foreign service has no other name.
            if (stats.metadata or {}).get(_SERVICE, service) == service:
                found.append(stats)
        return found

    return ask_all


class Debug:
    """Answers for the services of a table.

    Args:
        table: who is alive.
        asked: gives their counters; None where nobody can be asked.
    """

    def __init__(self, table: Table, asked: Ask | None) -> None:
        self._table = table
        self._asked = asked

    def answers(self, service: str, endpoint: str) -> bool:
        """Whether an endpoint is one of these: a service's own of that name comes first."""
        return endpoint.startswith(f"{HANDLER}.") and not self._table.endpoint(service, endpoint)

    async def answer(self, service: str, endpoint: str) -> dict[str, Any]:
        """The answer, as JSON has it.

        Raises:
            errors.NotFound: there is no such service.
            errors.Unavailable: none of it is alive.
            errors.Unimplemented: what cannot be told.
        """
        living = any(version.nodes for version in self._table.versions(service))
        if not self._table.knows(service):
            detail = f"service {service} not found; `micro services` lists them"
            raise errors.NotFound(service, detail)
        if not living and not self._table.lanes(service):
            raise errors.Unavailable(service, f"no replica of {service} is alive; try again later")
        if endpoint == f"{HANDLER}.Health":
            return {"status": "ok"}
        if endpoint == f"{HANDLER}.Stats" and self._asked is not None:
            return _summed(await self._asked(service), service)
        raise errors.Unimplemented(service, f"{endpoint} is not answered; use `micro logs`")


def _summed(found: list[Stats], service: str) -> dict[str, Any]:
    """The counters of all replicas together, since the oldest began."""
    if not found:
        raise errors.Unavailable(service, f"no replica of {service} has answered")
    started = min(int(stats.started.timestamp()) for stats in found)
    endpoints = [endpoint for stats in found for endpoint in stats.endpoints or ()]
    now = int(time.time())
    return {
        "timestamp": now,
        "started": started,
        "uptime": max(0, now - started),
        "requests": sum(endpoint.num_requests for endpoint in endpoints),
        "errors": sum(endpoint.num_errors for endpoint in endpoints),
    }
