"""One HTTP request or WebSocket that came over rpc, as ASGI has it.

https://asgi.readthedocs.io/en/stable/specs/www.html gives the scopes and the events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from microcosmos.base import codec
from microcosmos.rpc.http import (
    BINARY,
    CLOSE,
    TEXT,
    WEBSOCKET,
    RequestHead,
    ResponseHead,
    decode_request,
    encode_head,
)

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SAFE = "/:@!$&'()*+,;=~-._"


class Bridge:
    """Answers streams of rpc's HTTP with an ASGI application; an `rpc.server.StreamFunction`.

    Args:
        app: the application.
        root: the path below which it is, which it is told.
        service: whose errors are made.
        state: what the application's lifespan has left for its requests.
    """

    def __init__(
        self, app: App, root: str, service: str, state: dict[str, Any] | None = None
    ) -> None:
        self._app = app
        self._root = root
        self._service = service
        self._state = state

    async def __call__(
        self, body: bytes, messages: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        try:
            head = decode_request(body)
        except codec.DECODE_ERRORS as exc:
            raise codec.bad_input(self._service, exc) from None
        kind = _Socket if head.method == WEBSOCKET else _Request
        exchange = kind(head, messages)
        scope = exchange.scope(self._root)
        if self._state is not None:
            scope["state"] = dict(self._state)
        running = asyncio.create_task(self._run(scope, exchange))
        try:
            while (message := await exchange.said()) is not None:
                yield message
            await running
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await running

    async def _run(self, scope: dict[str, Any], exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
            exchange.check_answered()
        finally:
            exchange.end()


class _Exchange:
    """What a request and a WebSocket have in common."""

    kind = "http"

    def __init__(self, head: RequestHead, messages: AsyncIterator[bytes]) -> None:
        self._head = head
        self._messages = messages
        # One message, so that the application waits for a slow client; None is the end.
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._over = False
        self.begun = False

    async def say(self, message: bytes) -> None:
        """Say something to the gateway; waits until it has taken what was said before."""
        await self._out.put(message)

    async def said(self) -> bytes | None:
        """What is to be said next; None at the end."""
        return None if self._over and self._out.empty() else await self._out.get()

    def end(self) -> None:
        """Nothing more is said. It waits for nobody: whoever would take it may have gone."""
        self._over = True
        if self._out.empty():
            self._out.put_nowait(None)

    def scope(self, root: str) -> dict[str, Any]:
        """The scope of ASGI."""
        head = self._head
        headers = [(name.encode("latin-1"), _bytes(value)) for name, value in head.headers]
        host = next((value for name, value in head.headers if name == "host"), "")
        return {
            "type": self.kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "scheme": self._scheme(head.scheme),
            "path": head.path,
            "raw_path": quote(head.path, safe=_SAFE).encode("ascii"),
            "root_path": root,
            "query_string": _bytes(head.query),
            "headers": headers,
            "client": head.client,
            "server": _server(host, head.scheme),
            **self._own(),
        }

    def _scheme(self, scheme: str) -> str:
        return scheme

    def _own(self) -> dict[str, Any]:
        return {"method": self._head.method}

    async def receive(self) -> Event:
        raise NotImplementedError

    async def send(self, event: Event) -> None:
        raise NotImplementedError

    def check_answered(self) -> None:
        """An application that has returned without an answer has failed."""
        if not self.begun:
            raise RuntimeError("the application returned without a response")

    async def begin(self, event: Event, status: int) -> None:
        """Say the head of the answer."""
        self.begun = True
        headers = [
            (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
            for name, value in event.get("headers") or ()
        ]
        await self.say(encode_head(ResponseHead(status=status, headers=headers)))


class _Request(_Exchange):
    _read = False

    async def receive(self) -> Event:
        if not self._read and self._head.body:
            chunk = await anext(self._messages, None)
            if chunk is not None:
                return {"type": "http.request", "body": chunk, "more_body": True}
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # A client that leaves cancels this task: there is nothing else to wait for.
        await asyncio.get_running_loop().create_future()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            await self.begin(event, event["status"])
        elif event["type"] == "http.response.body":
            if not self.begun:
                raise RuntimeError("http.response.body before http.response.start")
            if chunk := event.get("body", b""):
                await self.say(bytes(chunk))


class _Socket(_Exchange):
    kind = "websocket"
    _opened = False

    def _scheme(self, scheme: str) -> str:
        return "wss" if scheme == "https" else "ws"

    def _own(self) -> dict[str, Any]:
        asked = dict(self._head.headers).get("sec-websocket-protocol", "")
        return {"subprotocols": [one.strip() for one in asked.split(",") if one.strip()]}

    async def receive(self) -> Event:
        if not self._opened:
            self._opened = True
            return {"type": "websocket.connect"}
        message = await anext(self._messages, None)
        if message is None:
            return {"type": "websocket.disconnect", "code": 1000, "reason": ""}
        if message[:1] == TEXT:
            return {"type": "websocket.receive", "text": message[1:].decode(), "bytes": None}
        return {"type": "websocket.receive", "text": None, "bytes": message[1:]}

    async def send(self, event: Event) -> None:
        match event["type"]:
            case "websocket.accept":
                protocol = event.get("subprotocol")
                extra = [(b"sec-websocket-protocol", protocol.encode())] if protocol else []
                headers = [*(event.get("headers") or ()), *extra]
                await self.begin({"headers": headers}, 101)
            case "websocket.send":
                text = event.get("text")
                payload = BINARY + event["bytes"] if text is None else TEXT + text.encode()
                await self.say(payload)
            case "websocket.close" if not self.begun:
                await self.begin({}, 403)
            case "websocket.close":
                why = f"{event.get('code', 1000)} {event.get('reason') or ''}"
                await self.say(CLOSE + why.encode())
            case _:
                pass


def _bytes(text: str) -> bytes:
    """The bytes of a header's value or a query: as they came where they were no Latin-1."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _server(host: str, scheme: str) -> tuple[str, int] | None:
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal():
        return name.strip("[]"), int(port)
    return (host.strip("[]"), 443 if scheme == "https" else 80) if host else None
