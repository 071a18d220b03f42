"""gRPC streams as rpc streams, each as fast as whoever reads it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from grpc import aio

from microcosmos.base import codec, errors
from microcosmos.rpc import Client
from microcosmos.rpc.interface import Stream

from .descriptors import Ways
from .forms import JSON, Forms, Protobuf
from .headers import Headers

_Context = aio.ServicerContext[Any, Any]
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Opened:
    """A call that streams.

    Attributes:
        service: whom it is for.
        endpoint: what of it.
        headers: what its headers say.
        ways: who streams.
    """

    service: str
    endpoint: str
    headers: Headers
    ways: Ways


async def carry(
    client: Client, call: Opened, forms: Forms, request: bytes | None, context: _Context
) -> None:
    """Carry the messages of a call both ways until its service has answered.

    Args:
        client: opens the stream.
        call: the call.
        forms: how its messages are written, unless its first one shows to be JSON.
        request: the first message, if it was read.
        context: where its messages come from, and the answers go.

    Raises:
        errors.Error: what the service answered, or what is wrong with a message.
    """
    carrier = _Carrier(call, forms, context)
    head, first = await carrier.head(request)
    headers = call.headers
    async with client.stream(
        call.service, call.endpoint, head, metadata=headers.metadata, timeout=headers.timeout
    ) as stream:
        sending = asyncio.ensure_future(carrier.send(stream, first))
        try:
            await carrier.receive(stream)
        except errors.Error:
            # Of what a bad message of the client has ended, the reason is that message.
            if carrier.refused is not None:
                raise carrier.refused from None
            raise
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


class _Carrier:
    def __init__(self, call: Opened, forms: Forms, context: _Context) -> None:
        self._call = call
        self._forms = forms
        self._context = context
        self.refused: errors.Error | None = None

    async def head(self, request: bytes | None) -> tuple[bytes, bytes | None]:
        """The body that opens the stream, and the first item if it came with it."""
        if request is None:
            return b"{}", None
        body = await self._forms.read(request)
        if not self._call.ways.items:
            return body, None
        fields = self._fields(body)
        item = fields.pop(self._call.ways.items, _NOTHING)
        return codec.encode(fields), None if item is _NOTHING else codec.encode(item)

    async def send(self, stream: Stream, first: bytes | None) -> None:
        """Send what the client does; a bad message ends the stream."""
        try:
            if first is not None:
                await stream.send(first)
            if self._call.ways.client:
                await self._send_all(stream)
            await stream.end()
        except errors.Conflict:
            # The service has answered without reading to the end.
            return
        except errors.Error as error:
            self.refused = error
            await stream.close()

    async def _send_all(self, stream: Stream) -> None:
        read = self._context.read
        while (message := await read()) is not aio.EOF:
            if message[:1] == b"{" and type(self._forms) is Protobuf:
                self._forms = JSON
            body = await self._forms.read(message)
            await stream.send(self._item(body) if self._call.ways.items else body)

    def _item(self, body: bytes) -> bytes:
        items = self._call.ways.items
        fields = self._fields(body)
        item = fields.pop(items, self._call.ways.nothing)
        if fields or item is None:
            detail = f"after the first message of {self._call.endpoint} each has {items} alone"
            raise errors.BadRequest(self._call.service, detail)
        return codec.encode(item)

    def _fields(self, body: bytes) -> dict[str, Any]:
        fields: Any = codec.decode(body, id=self._call.service)
        if not isinstance(fields, dict):
            detail = f"a message of {self._call.endpoint} is no JSON object"
            raise errors.BadRequest(self._call.service, detail)
        found: dict[str, Any] = fields
        return found

    async def receive(self, stream: Stream) -> None:
        """Give the client what the service answers."""
        write = self._context.write
        async for body in stream:
            await write(await self._forms.write(body))
