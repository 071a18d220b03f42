"""The part of a Python client by HTTP that streams to the service, by WebSocket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlencode

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from .http import BadGateway, ConnectionLost, _error, _Service
from .http_answers import Answers

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# The part.


class Dialogue(Answers[Answer], Generic[Item, Answer]):
    """Answers as they come, to items as they are sent; use it as a block."""

    def __init__(
        self,
        service: _Service,
        path: str,
        request: object,
        kind: Any,
    ) -> None:
        super().__init__(self._read(), kind)
        self._service = service
        self._path = path
        self._request = request
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def send(self, item: Item) -> None:
        """Send an item; waits while the service is behind."""
        socket = await self._connected()
        with contextlib.suppress(websockets.ConnectionClosed):
            # Who reads the answers is told why it closed.
            await socket.send(msgspec.json.encode(item), text=True)

    async def end(self) -> None:
        """No more items come; the answers still do."""
        socket = await self._connected()
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.send("")

    async def aclose(self) -> None:
        """End the stream; whoever answers is told."""
        if self._socket is not None:
            await self._socket.close()

    async def _connected(self) -> ClientConnection:
        if self._socket is None:
            url = "ws" + self._service._url.removeprefix("http") + self._path
            headers = dict(self._service._headers)
            del headers["content-type"]
            try:
                self._socket = await websockets.connect(
                    url + _query(self._request),
                    additional_headers=headers,
                    max_size=None,
                )
            except websockets.InvalidStatus as error:
                told = error.response
                raise _error(bytes(told.body or b""), told.status_code) from None
            except (OSError, websockets.WebSocketException) as error:
                detail = f"{self._service._url} does not answer: {error}"
                raise ConnectionLost(self._path, detail) from None
        return self._socket

    async def _read(self) -> AsyncIterator[bytes | str]:
        socket = await self._connected()
        try:
            async for message in socket:
                told = message if isinstance(message, str) else message.decode()
                if told.startswith('{"error":'):
                    raise _error(told)
                if told:
                    yield told
        except websockets.ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 0
            reason = error.rcvd.reason if error.rcvd else ""
            if 4400 <= code < 4600:
                raise _error(b"", code - 4000, reason) from None
            detail = f"the stream broke: {reason or error}"
            raise ConnectionLost(self._path, detail) from None

    async def _only(self, items: Iterable[Item] | AsyncIterable[Item]) -> Answer:
        """Send all items, and give the one answer."""
        async with self:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    await self.send(item)
            else:
                for item in items:
                    await self.send(item)
            await self.end()
            async for answer in self:
                return answer
        raise BadGateway("client", "the stream ended without an answer")


def _query(request: object) -> str:
    """A request as a query string: texts as they are, everything else as JSON."""
    fields = msgspec.to_builtins({} if request is None else request, str_keys=True)
    texts = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in fields.items()
    }
    return f"?{urlencode(texts)}" if texts else ""
