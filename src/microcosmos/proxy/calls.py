"""gRPC calls as rpc calls: one request and one answer, or streams of either."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from grpc import aio

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from . import debug, micro, status, streams
from .debug import Debug
from .descriptors import Descriptors
from .files import describe
from .forms import JSON, Forms, Proto3Json, Protobuf
from .headers import Headers
from .standing import Standing

log = logging.getLogger("microcosmos.proxy")

STREAM_GRACE = 1.0
"""Seconds that streams have to end in when the proxy closes."""

TRACE = "micro-trace"
"""The trailer with the id by which the logs of a call are found."""

_DEBUG = describe(debug.NAME, [])
_Context = aio.ServicerContext[Any, Any]


class Calls:
    """Turns gRPC calls into rpc calls.

    Args:
        client: carries them.
        descriptors: tells what paths and protobuf payloads mean.
        standing: ends the streams when the proxy closes.
        debug: answers what Micro v3 asked every process.
    """

    def __init__(
        self, client: Client, descriptors: Descriptors, standing: Standing, debug: Debug
    ) -> None:
        self._client = client
        self._descriptors = descriptors
        self._standing = standing
        self._debug = debug

    async def answer(self, path: str, context: _Context) -> None:
        """Answer one call, or end it with the status of its error."""
        trace = ""
        try:
            headers = Headers(context.invocation_metadata() or (), context.time_remaining())
            trace = headers.trace()
            context.set_trailing_metadata(((TRACE, trace),))
            await self._answer(path, headers, context)
            return
        except errors.Error as exc:
            error = exc
        except Exception as exc:
            log.exception("%s failed", path)
            error = errors.from_exception(exc, "proxy")
        await refuse(context, error, trace)

    async def _answer(self, path: str, headers: Headers, context: _Context) -> None:
        service, endpoint = self._descriptors.endpoint(path)
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
            await self._debugged(service, endpoint, headers, request, context)
            return
        forms = await self._forms(service, endpoint, headers, request)
        if isinstance(forms, Protobuf) and (known := micro.ADAPTED.get((service, endpoint))):
            await self._carry(self._adapted(known, forms, headers, request, context))
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


async def refuse(context: _Context, error: errors.Error, trace: str) -> None:
    """End a call with the status of an error."""
    code, text, details = status.to_grpc(error)
    about = ((TRACE, trace),) if trace else ()
    context.set_trailing_metadata((*about, (status.DETAILS, details)))
    await context.abort(code, text)
