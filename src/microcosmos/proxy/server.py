"""The proxy: a gRPC server on which every path is an endpoint of some service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from microcosmos.auth.access import Access
from microcosmos.base import errors
from microcosmos.registry import Table
from microcosmos.rpc import MAX_BODY, Client

from . import cosmo, health, reflection, status
from .debug import Ask
from .descriptors import Schemas
from .headers import Headers
from .numbers import Numbers
from .standing import Standing
from .tls import Shown
from .visitors import ADDRESS, Visit, Visitors
from .worlds import Answering, Open, World, Worlds

log = logging.getLogger("microcosmos.proxy")

TRACE = "micro-trace"
"""The trailer with the id by which the logs of a call are found."""

GRACE = 5.0
"""Seconds that calls have to end in when the proxy closes."""

OPTIONS = (
    # A request as protobuf may be a little longer than the JSON that the limit is for; what is
    # over the limit as JSON is refused by rpc. Answers were measured there already.
    ("grpc.max_receive_message_length", MAX_BODY + 64 * 1024),
    ("grpc.max_send_message_length", -1),
    # A port in use must be seen, not shared.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)

_Context = aio.ServicerContext[Any, Any]


@asynccontextmanager
async def serve_proxy(
    address: str,
    client: Client,
    table: Table,
    *,
    numbers: Numbers | None = None,
    tls: Shown | None = None,
    socket: Path | None = None,
    schemas: Schemas | None = None,
    stats: Ask | None = None,
    access: Access | None = None,
    worlds: Open | None = None,
    admin: cosmo.Admin | None = None,
) -> AsyncIterator[str]:
    """Answer gRPC while the context is open, and give the address with its real port.

    Args:
        address: ``host:port``; port 0 takes a free one.
        client: carries the calls.
        table: the services there are, with the shapes of their endpoints.
        numbers: gives fields their numbers; without it they last as long as the proxy.
        tls: the certificate that clients are shown; without one there is no TLS.
        socket: a Unix socket to answer on as well, for processes of this user: without TLS.
        schemas: gives the schemas of a service's endpoints, from memory.
        stats: gives what replicas have counted.
        access: who may call; services of ours ask for themselves, but the proxy does not let in
            what shows a bad token. None lets everybody do everything.
        worlds: gives namespaces other than `micro`; without it there are none.
        admin: what clients of this machine may show to CosmoCompute's control plane without a
            login; None lets in nobody so.

    Raises:
        errors.Conflict: the address cannot be listened on.
    """
    standing, visitors = Standing(), Visitors(access)

    def answering(world: World) -> Answering:
        return Answering(world, standing, visitors)

    default = answering(World(client, table, numbers, schemas, stats))
    door = _Door(visitors, Worlds(default, worlds, answering, access))
    builtin = {
        **reflection.handlers(door.reflect),
        **health.handlers(default.descriptors, table, standing),
        **cosmo.handlers(door.enter, admin),
    }
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((_Paths(door, builtin),))
    port = _listen(server, address, tls)
    if socket is not None:
        server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        standing.close()
        await server.stop(GRACE)


def _listen(server: aio.Server, address: str, tls: Shown | None) -> int:
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls.credentials())
        if port:
            return port
    except RuntimeError:
        pass
    detail = f"cannot listen on {address}; is it in use? `--proxy_address` takes another"
    raise errors.Conflict("proxy", detail)


class _Paths(grpc.GenericRpcHandler):
    """Finds what answers a path: a built-in service, else an endpoint."""

    def __init__(self, door: _Door, builtin: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._door = door
        self._builtin = builtin

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        if (known := self._builtin.get(path)) is not None:
            return known

        async def answer(_: object, context: _Context) -> None:
            await self._door.call(path, context)

        # Streams of messages on both sides serve every arity: one of one message looks the same.
        return grpc.stream_stream_rpc_method_handler(answer)


class _Door:
    """Lets calls in to what answers in their namespace, and tells those that are refused."""

    def __init__(self, visitors: Visitors, worlds: Worlds) -> None:
        self._visitors = visitors
        self._worlds = worlds

    async def call(self, path: str, context: _Context) -> None:
        """Answer a call of an endpoint."""

        async def answer(there: Answering, headers: Headers, visit: Visit) -> None:
            await there.calls.answer(path, headers, visit, context)

        await self._let_in(path, context, answer)

    async def enter(self, context: _Context) -> cosmo.Visitor:
        """Let in a call of CosmoCompute's control plane."""
        headers = Headers(context.invocation_metadata() or (), context.time_remaining())
        context.set_trailing_metadata(((TRACE, headers.trace()),))
        visit = self._visitors.look_at(headers, context.peer())
        there = await self._worlds.get(visit.namespace)
        headers.metadata.pop(ADDRESS, None)
        return cosmo.Visitor(there.client, headers, visit.shown is not None)

    async def reflect(self, _: object, context: _Context) -> AsyncIterator[Any]:
        """Answer what there is, to who may read the registry."""
        found: list[Answering] = []

        async def look(there: Answering, headers: Headers, visit: Visit) -> None:
            self._visitors.admit(visit, "registry", "Registry.ListServices", "read")
            found.append(there)

        await self._let_in("reflection", context, look)
        for there in found:
            async for one in there.reflection.answer(None, context):
                yield one

    async def _let_in(
        self,
        path: str,
        context: _Context,
        answer: Callable[[Answering, Headers, Visit], Awaitable[None]],
    ) -> None:
        """Do something for a call, or end it with the status of its error."""
        trace = ""
        try:
            headers = Headers(context.invocation_metadata() or (), context.time_remaining())
            trace = headers.trace()
            context.set_trailing_metadata(((TRACE, trace),))
            visit = self._visitors.look_at(headers, context.peer())
            await answer(await self._worlds.get(visit.namespace), headers, visit)
            return
        except errors.Error as exc:
            error = exc
        except Exception as exc:
            log.exception("%s failed", path)
            error = errors.from_exception(exc, "proxy")
        await _refuse(context, error, trace)


async def _refuse(context: _Context, error: errors.Error, trace: str) -> None:
    """End a call with the status of an error."""
    code, text, details = status.to_grpc(error)
    about = ((TRACE, trace),) if trace else ()
    context.set_trailing_metadata((*about, (status.DETAILS, details)))
    await context.abort(code, text)
