"""WebSockets of applications that are mounted in services: messages pass as they are."""

from __future__ import annotations

import asyncio

from microcosmos.base import codec, errors
from microcosmos.rpc import Call, Stream
from microcosmos.rpc.http import CLOSE, decode_response

from .websocket import WebSocket

_ACCEPTED = 101
_ENDED = 1000


async def admitted(stream: Stream, call: Call) -> None:
    """Wait until the application lets a WebSocket in.

    Raises:
        errors.Error: it does not.
    """
    try:
        head = decode_response(await anext(stream))
    except (StopAsyncIteration, *codec.DECODE_ERRORS):
        detail = f"{call.endpoint} of {call.service} does not answer as an application does"
        raise errors.BadGateway(call.service, detail) from None
    if head.status != _ACCEPTED:
        detail = f"{call.endpoint} of {call.service} does not let this WebSocket in"
        raise errors.of_code(head.status, call.service, detail)


async def carry(socket: WebSocket, stream: Stream) -> None:
    """Carry messages both ways until one side closes.

    Raises:
        errors.Error: the application has failed, or its service is lost.
    """
    receiving = asyncio.create_task(_receive(socket, stream))
    try:
        async for message in stream:
            if message[:1] == CLOSE:
                code, _, reason = message[1:].decode(errors="replace").partition(" ")
                await socket.close(int(code) if code.isdecimal() else _ENDED, reason)
                return
            await socket.send(message)
        await socket.close(_ENDED)
    finally:
        receiving.cancel()


async def _receive(socket: WebSocket, stream: Stream) -> None:
    try:
        while (message := await socket.receive()) is not None:
            await stream.send(message)
        # The application is told that its client has left, and ends.
        await stream.end()
    except errors.Error as error:
        await stream.close(error)
