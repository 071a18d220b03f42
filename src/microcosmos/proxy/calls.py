"""gRPC calls as rpc calls: one request and one answer, or streams of either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from grpc import aio

from microcosmos.base import codec, errors
from microcosmos.registry import Table
from microcosmos.rpc import Client

from . import debug, micro, micro_events, micro_store, streams
from .debug import Debug
from .descriptors import Descriptors
from .files import describe
from .forms import JSON, Forms, Proto3Json, Protobuf
from .headers import Headers
from .standing import Standing
from .visitors import Visit, Visitors

STREAM_GRACE = 1.0
"""Seconds that streams have to end in when the proxy closes."""

_DEBUG = describe(debug.NAME, [])
_ADAPTED = micro.ADAPTED | micro_store.ADAPTED
_Context = aio.ServicerContext[Any, Any]


class Calls:
    """Turns gRPC calls into rpc calls, in one namespace.

    Args:
        client: carries them; it shows nothing of its own.
        table: the services there.
        descriptors: tells what paths and protobuf payloads mean.
        standing: ends the streams when the proxy closes.
        debug: answers what Micro v3 asked every process.
        visitors: refuses who may not call.
    """

    def __init__(
        self,
        client: Client,
        table: Table,
        descriptors: Descriptors,
        standing: Standing,
        debug: Debug,
        visitors: Visitors,
    ) -> None:
        self._client = client
        self._table = table
        self._visitors = visitors
        self._descriptors = descriptors
        self._standing = standing
        self._debug = debug

    async def answer(self, path: str, headers: Headers, visit: Visit, context: _Context) -> None:
        """Answer one call.

        Raises:
            errors.Error: what it is to end with.
        """
        service, endpoint = self._descriptors.endpoint(path)
        known = self._table.endpoint(service, endpoint)
        self._visitors.pass_on(visit, headers, service, endpoint, known)
        ways = self._descriptors.ways(service, endpoint)
        if ways.client and not ways.items:
            # Who streams may wait for an answer before saying anything; what it speaks is known
            # from its headers, or from its first message.
            answers = await self._forms(service, endpoint, headers, None)
            call = streams.Opened(service, endpoint, headers, ways)
            await self._carry(streams.carry(self._client, call, answers, None, context))
            return
        request = await context.read()
        if request is aio.EOF:
            raise errors.BadRequest("proxy", f"the call of {path[:80]} has no request")
        if self._debug.answers(service, endpoint):
            self._visitors.admit(visit, service, endpoint)
            await self._debugged(service, endpoint, headers, request, context)
            return
        forms = await self._forms(service, endpoint, headers, request)
        if (service, endpoint) == (micro_events.SERVICE, micro_events.ENDPOINT):
            forms = micro_events.Consuming(forms, await self._descriptors.file(service))
        if isinstance(forms, Protobuf) and (adapter := _ADAPTED.get((service, endpoint))):
            await self._carry(self._adapted(adapter, forms, headers, request, context))
        elif ways:
            call = streams.Opened(service, endpoint, headers, ways)
            await self._carry(streams.carry(self._client, call, forms, request, context))
        else:
            await self._once(service, endpoint, headers, forms, request, context)

    async def _carry(self, carrying: Coroutine[Any, Any, None]) -> None:
        """Carry a stream until it ends, or the proxy does."""

        async def whole() -> bool:
            await carrying
            return True

        try:
            if not await self._standing.wait(whole(), STREAM_GRACE):
                raise errors.Unavailable("proxy", "the proxy stops; open the stream again")
        finally:
            carrying.close()  # it may have been cancelled before it began

    async def _forms(
        self, service: str, endpoint: str, headers: Headers, request: bytes | None
    ) -> Forms:
        """How the messages of a call are written: the content type is invisible here."""
        if headers.proto3:
            return Proto3Json(await self._descriptors.method(service, endpoint), service)
        # No proto3 message begins with this byte.
        if headers.json or (request is not None and request[:1] == b"{"):
            return JSON
        return Protobuf(await self._descriptors.method(service, endpoint), service)

    async def _once(
        self,
        service: str,
        endpoint: str,
        headers: Headers,
        forms: Forms,
        request: bytes,
        context: _Context,
    ) -> None:
        body = await forms.read(request)
        answer = await self._client.call(
            service, endpoint, body, metadata=headers.metadata, timeout=headers.timeout
        )
        await context.write(await forms.write(answer))

    async def _debugged(
        self, service: str, endpoint: str, headers: Headers, request: bytes, context: _Context
    ) -> None:
        answer = codec.encode(await self._debug.answer(service, endpoint))
        method = _DEBUG.method(endpoint)
        if method is not None and not headers.json and request[:1] != b"{":
            answer = method.response.from_json(answer, service)
        await context.write(answer)

    async def _adapted(
        self,
        adapter: micro.Adapter,
        forms: Protobuf,
        headers: Headers,
        request: bytes,
        context: _Context,
    ) -> None:
        """Let messages of Micro v3 be understood by a core service that has others of its own."""

        async def requests() -> AsyncIterator[Any]:
            message: Any = request
            while message is not aio.EOF:
                yield await forms.value(message)
                message = await context.read()

        ask = micro.Ask(self._client, forms.service, headers)
        async for answer in adapter(ask, requests()):
            await context.write(await forms.of_value(answer))
