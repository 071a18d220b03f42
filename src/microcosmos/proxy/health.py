"""``grpc.health.v1.Health`` over the live table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2

from microcosmos.registry import Table

from .descriptors import Descriptors
from .standing import Standing

NAME = "grpc.health.v1.Health"

_States = health_pb2.HealthCheckResponse
_Context = aio.ServicerContext[Any, Any]


def handlers(
    descriptors: Descriptors, table: Table, standing: Standing
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """What answers its two methods, by path."""
    health = Health(descriptors, table, standing)
    messages: dict[str, Any] = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    return {
        f"/{NAME}/Check": grpc.unary_unary_rpc_method_handler(health.check, **messages),
        f"/{NAME}/Watch": grpc.unary_stream_rpc_method_handler(health.watch, **messages),
    }


class Health:
    """Says whether a service is served.

    Its names are ours (``helloworld``) and gRPC's (``helloworld.Helloworld``); the empty one is
    the proxy itself.
    """

    def __init__(self, descriptors: Descriptors, table: Table, standing: Standing) -> None:
        self._descriptors = descriptors
        self._table = table
        self._standing = standing
        self._changed = asyncio.Event()
        table.on_change(self._tell)

    def _tell(self, _: str) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _state(self, name: str) -> int:
        if not name or name == NAME:
            return int(_States.SERVING)
        service = self._descriptors.service_of(name)
        if service is None and (service := self._descriptors.service_of(name.rpartition(".")[0])):
            handler = name.rpartition(".")[2]
            versions = self._table.versions(service)
            known = [e.name for version in versions for e in version.endpoints]
            if versions and not any(one.partition(".")[0] == handler for one in known):
                service = None
        if service is None:
            return int(_States.SERVICE_UNKNOWN)
        living = any(version.nodes for version in self._table.versions(service))
        alive = living or self._table.lanes(service)
        return int(_States.SERVING if alive else _States.NOT_SERVING)

    async def check(self, request: Any, context: _Context) -> Any:
        """The state of a service now; an unknown one is NotFound, as the protocol has it."""
        if (state := self._state(request.service)) == _States.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:80]!r}")
        return health_pb2.HealthCheckResponse(status=state)

    async def watch(self, request: Any, context: _Context) -> AsyncIterator[Any]:
        """The state of a service now and whenever it changes."""
        told = None
        going = True
        while going:
            changed = self._changed
            if (state := self._state(request.service)) != told:
                yield health_pb2.HealthCheckResponse(status=state)
                told = state
            going = bool(await self._standing.wait(changed.wait()))
