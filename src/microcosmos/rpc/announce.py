"""Announcements by the NATS services protocol (ADR-32), so that any NATS tool sees our services.

https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md gives the subjects
(``$SRV.PING``, ``$SRV.INFO``, ``$SRV.STATS``, each also with a name, and with a name and an id)
and the answers. Its names are narrower than ours: the true ones stand in the metadata.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import names

from .server import Endpoint, Hosted

SERVICE = "micro.service"
VERSION = "micro.version"
ENDPOINT = "micro.endpoint"
REQUEST = "micro.request"
RESPONSE = "micro.response"
SCHEMA = "micro.schema"

TYPE = "io.nats.micro.v1."
_NANOSECONDS = 1_000_000_000


class EndpointInfo(msgspec.Struct, kw_only=True):
    """An endpoint in an INFO answer."""

    name: str
    subject: str
    queue_group: str = "q"
    metadata: dict[str, str] | None = None


class Info(msgspec.Struct, kw_only=True):
    """An INFO answer."""

    type: str = TYPE + "info_response"
    name: str
    id: str
    version: str
    description: str | None = None
    metadata: dict[str, str] | None = None
    endpoints: list[EndpointInfo] | None = None


@contextlib.asynccontextmanager
async def announce(
    nc: NatsClient, hosted: Hosted, node: str, about: Mapping[str, str]
) -> AsyncIterator[None]:
    """Answer PING, INFO and STATS for a service until the block ends.

    Args:
        nc: a connection made by `nats.connect`.
        hosted: the service.
        node: the id of this process among the service's replicas.
        about: metadata of this process.
    """
    announcement = _Announcement(hosted, node, about)
    name = names.announced(hosted.name)
    subscriptions = []
    for verb, answer in announcement.verbs.items():
        for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{node}"):
            subscription = await nc.subscribe(subject, cb=_responder(answer))
            subscriptions.append(subscription)
    try:
        yield
    finally:
        for subscription in subscriptions:
            with contextlib.suppress(Exception):  # the connection may have gone before us
                await subscription.unsubscribe()


def _responder(answer: Callable[[], bytes]) -> Callable[[Msg], Awaitable[None]]:
    async def respond(msg: Msg) -> None:
        if msg.reply:
            await msg.respond(answer())

    return respond


class _Announcement:
    def __init__(self, hosted: Hosted, node: str, about: Mapping[str, str]) -> None:
        self._hosted = hosted
        self._started = datetime.datetime.now(datetime.UTC)
        self._identity: dict[str, Any] = {
            "name": names.announced(hosted.name),
            "id": node,
            "version": names.announced_version(hosted.version),
            "metadata": {**hosted.metadata, **about, SERVICE: hosted.name, VERSION: hosted.version},
        }
        self.verbs: dict[str, Callable[[], bytes]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }

    def _ping(self) -> bytes:
        return msgspec.json.encode({"type": TYPE + "ping_response", **self._identity})

    def _info(self) -> bytes:
        endpoints = [_endpoint_info(self._hosted.name, e) for e in self._hosted.endpoints.values()]
        return msgspec.json.encode(Info(**self._identity, description="", endpoints=endpoints))

    def _stats(self) -> bytes:
        endpoints = [_endpoint_stats(self._hosted.name, e) for e in self._hosted.endpoints.values()]
        started = self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        answer = {"type": TYPE + "stats_response", **self._identity, "started": started}
        return msgspec.json.encode({**answer, "endpoints": endpoints})


def _endpoint_info(service: str, endpoint: Endpoint) -> EndpointInfo:
    return EndpointInfo(
        name=names.announced_endpoint(endpoint.name),
        subject=names.subject(service, endpoint.name),
        metadata={
            **endpoint.metadata,
            ENDPOINT: endpoint.name,
            REQUEST: msgspec.json.encode(endpoint.request).decode(),
            RESPONSE: msgspec.json.encode(endpoint.response).decode(),
            SCHEMA: endpoint.schema.decode(),
        },
    )


def _endpoint_stats(service: str, endpoint: Endpoint) -> dict[str, Any]:
    stats = endpoint.stats
    return {
        "name": names.announced_endpoint(endpoint.name),
        "subject": names.subject(service, endpoint.name),
        "queue_group": "q",
        "num_requests": stats.requests,
        "num_errors": stats.errors,
        "last_error": stats.last_error,
        "processing_time": int(stats.processing_time * _NANOSECONDS),
        "average_processing_time": int(
            stats.processing_time * _NANOSECONDS / max(1, stats.requests)
        ),
    }
