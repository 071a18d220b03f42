"""A whole request to a raw endpoint, and its response back, each as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import codec, errors
from microcosmos.gateway.streams.room import Room
from microcosmos.rpc import Call, Client, Stream
from microcosmos.rpc.http import RequestHead, ResponseHead, decode_response, encode_head

from .paths import Raw

log = logging.getLogger("microcosmos.gateway")

MAX_UPLOAD = 1024 * 1024 * 1024
"""The most bytes of a body sent to a raw HTTP endpoint; it is passed on as it comes."""

GATHERED = 256 * 1024
"""A response that says it is no longer is sent as one piece."""

_FAILED = (RSGIProtocolClosed, RSGIProtocolError)

# https://www.rfc-editor.org/rfc/rfc9110#name-connection: they concern one connection only.
_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_BODILESS = frozenset({204, 304})


async def forward(
    client: Client, raw: Raw, scope: Any, proto: Any, metadata: dict[str, str], room: Room
) -> None:
    """Answer a request by what a raw endpoint answers.

    Args:
        client: carries the request.
        raw: where it goes.
        scope: the request.
        proto: its exchange.
        metadata: what travels beside it.
        room: how much its client takes.

    Raises:
        errors.Error: nothing has been answered yet; it is for the caller to tell.
    """
    head = request_head(scope)
    call = Call(raw.service, raw.endpoint, encode_head(head), metadata)
    stream = await client.open(call)
    sending = asyncio.create_task(_upload(proto, stream)) if head.body else None
    try:
        await _respond(scope, proto, stream, raw, room)
    finally:
        if sending is not None:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        await stream.close()


def request_head(scope: Any, method: str = "") -> RequestHead:
    """What is told of a request before its body, under another method if one is given."""
    headers = [(name, value) for name, value in scope.headers.items() if name not in _HOP]
    names = dict(headers)
    sent = "transfer-encoding" in scope.headers or names.get("content-length", "0") != "0"
    if scope.http_version == "2" and scope.method not in ("GET", "HEAD"):
        # Nothing says there whether a body follows.
        sent = names.get("content-length") != "0"
    address, _, port = scope.client.rpartition(":")
    return RequestHead(
        method=method or scope.method,
        scheme=scope.scheme,
        path=scope.path,
        query=scope.query_string,
        headers=headers,
        version=scope.http_version,
        client=(address.strip("[]"), int(port)) if port.isdecimal() else None,
        body=sent,
    )


async def _upload(proto: Any, stream: Stream) -> None:
    """Send the body of a request, as fast as it is read at the other end."""
    size = ends = 0
    try:
        async for part in proto:
            if not part:
                ends += 1
                continue
            size += len(part)
            if size > MAX_UPLOAD:
                detail = f"the body is over the limit of {MAX_UPLOAD} bytes"
                return await stream.close(errors.TooLarge("gateway", detail))
            await stream.send(part)
        # Granian ends a body with an empty part, and has another where it broke off.
        if ends > 1:
            return await stream.close(errors.BadRequest("gateway", "the body broke off"))
        await stream.end()
    except _FAILED:
        await stream.close(errors.BadRequest("gateway", "the body broke off"))
    except errors.Error:
        # Told to whom waits for the response, or nobody wants the rest of the body.
        pass


async def _respond(scope: Any, proto: Any, stream: Stream, raw: Raw, room: Room) -> None:
    try:
        head = decode_response(await anext(stream))
    except StopAsyncIteration:
        raise _wrong(raw, "ended without a response") from None
    except codec.DECODE_ERRORS:
        raise _wrong(raw, "answered what is no response") from None
    if not 200 <= head.status <= 599:
        raise _wrong(raw, f"answered with the status {head.status}")
    headers = [(name, value) for name, value in head.headers if name not in _HOP]
    if scope.method == "HEAD" or head.status in _BODILESS:
        proto.response_empty(head.status, headers)
    elif 0 <= _length(head) <= GATHERED:
        proto.response_bytes(head.status, headers, await _gathered(stream, raw))
    else:
        sending = proto.response_stream(head.status, headers)
        try:
            await _send(sending, stream, room)
        except errors.Error as error:
            # The head is out: that the connection ends early is all that can still be told.
            log.warning("%s %s failed in mid-response: %s", raw.service, raw.endpoint, error)
            await asyncio.to_thread(room.abort)


async def _gathered(stream: Stream, raw: Raw) -> bytes:
    """A short body, whole."""
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        parts.append(part)
        size += len(part)
        if size > GATHERED:
            raise _wrong(raw, "answers more than it says in Content-Length")
    return b"".join(parts)


async def _send(sending: Any, stream: Stream, room: Room) -> None:
    """Send the body of a response, as fast as its client reads."""
    try:
        async for part in stream:
            await sending.send_bytes(part)
            room.give(len(part))
            await room.wait()
    except _FAILED:
        # The client has gone; the handler is cancelled when the stream is closed.
        return
    finally:
        room.leave()


def _length(head: ResponseHead) -> int:
    """What a response says of its length; -1 if nothing."""
    for name, value in head.headers:
        if name == "content-length" and value.isdecimal():
            return int(value)
    return -1


def _wrong(raw: Raw, what: str) -> errors.BadGateway:
    return errors.BadGateway(raw.service, f"{raw.endpoint} of {raw.service} {what}")
