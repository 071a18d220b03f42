"""The proxy: a gRPC server on which every path is an endpoint of some service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from microcosmos.base import errors
from microcosmos.registry import Table
from microcosmos.rpc import MAX_BODY, Client

from . import health, reflection, status
from .descriptors import Descriptors
from .headers import Headers
from .standing import Standing

log = logging.getLogger("microcosmos.proxy")

GRACE = 5.0
"""Seconds that calls have to end in when the proxy closes."""

LARGE = 64 * 1024
"""Bytes from which on a payload is converted in a thread: about 10 ms of work."""

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
async def serve_proxy(address: str, client: Client, table: Table) -> AsyncIterator[str]:
    """Answer gRPC while the context is open, and give the address with its real port.

    Args:
        address: ``host:port``; port 0 takes a free one.
        client: carries the calls.
        table: the services there are, with the shapes of their endpoints.

    Raises:
        errors.Conflict: the address cannot be listened on.
    """
    descriptors = Descriptors(table)
    standing = Standing()
    builtin = {
        **reflection.handlers(descriptors, standing),
        **health.handlers(descriptors, table, standing),
    }
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((_Paths(Calls(client, descriptors), builtin),))
    port = _listen(server, address)
    await server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        standing.close()
        await server.stop(GRACE)


def _listen(server: aio.Server, address: str) -> int:
    try:
        if port := server.add_insecure_port(address):
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


class Calls:
    """Turns gRPC calls into rpc calls.

    Args:
        client: carries them.
        descriptors: tells what paths and protobuf payloads mean.
    """

    def __init__(self, client: Client, descriptors: Descriptors) -> None:
        self._client = client
        self._descriptors = descriptors

    async def answer(self, path: str, context: _Context) -> None:
        """Answer one call, or end it with the status of its error."""
        try:
            request = await context.read()
            if request is aio.EOF:
                raise errors.BadRequest("proxy", f"the call of {path[:80]} has no request")
            await context.write(await self._unary(path, request, context))
            return
        except errors.Error as exc:
            error = exc
        except Exception as exc:
            log.exception("%s failed", path)
            error = errors.from_exception(exc, "proxy")
        await refuse(context, error)

    async def _unary(self, path: str, request: bytes, context: _Context) -> bytes:
        service, endpoint = self._descriptors.endpoint(path)
        headers = Headers(context.invocation_metadata() or (), context.time_remaining())
        # The content type is invisible here, but no proto3 message begins with this byte.
        if request[:1] == b"{" or headers.json:
            return await self._call(service, endpoint, request or b"{}", headers)
        method = self._descriptors.method(service, endpoint)
        if method.streams:
            raise errors.Unimplemented(service, f"{endpoint} streams, which the proxy cannot yet")
        body = await _turned(method.request.to_json, request, service)
        answer = await self._call(service, endpoint, body, headers)
        return await _turned(method.response.from_json, answer, service)

    async def _call(self, service: str, endpoint: str, body: bytes, headers: Headers) -> bytes:
        return await self._client.call(
            service, endpoint, body, metadata=headers.metadata, timeout=headers.timeout
        )


async def _turned(turn: Callable[[bytes, str], bytes], data: bytes, service: str) -> bytes:
    """One form of a payload made of the other, without keeping other calls waiting for long."""
    if len(data) < LARGE:
        return turn(data, service)
    return await asyncio.to_thread(turn, data, service)


async def refuse(context: _Context, error: errors.Error) -> None:
    """End a call with the status of an error."""
    code, text, details = status.to_grpc(error)
    context.set_trailing_metadata(((status.DETAILS, details),))
    await context.abort(code, text)
