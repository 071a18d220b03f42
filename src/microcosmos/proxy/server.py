"""The proxy: a gRPC server on which every path is an endpoint of some service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from microcosmos.base import errors
from microcosmos.registry import Table
from microcosmos.rpc import MAX_BODY, Client

from . import health, reflection
from .calls import Calls
from .debug import Ask, Debug
from .descriptors import Descriptors, Schemas
from .numbers import Numbers
from .standing import Standing
from .tls import Shown

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

    Raises:
        errors.Conflict: the address cannot be listened on.
    """
    descriptors = Descriptors(table, numbers, schemas)
    standing = Standing()
    builtin = {
        **reflection.handlers(descriptors, standing),
        **health.handlers(descriptors, table, standing),
    }
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (_Paths(Calls(client, descriptors, standing, Debug(table, stats)), builtin),)
    )
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

    def __init__(
        self, calls: Calls, builtin: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self._calls = calls
        self._builtin = builtin

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        if (known := self._builtin.get(path)) is not None:
            return known

        async def answer(_: object, context: _Context) -> None:
            await self._calls.answer(path, context)

        # Streams of messages on both sides serve every arity: one of one message looks the same.
        return grpc.stream_stream_rpc_method_handler(answer)
