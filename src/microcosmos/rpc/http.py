"""HTTP requests as streams of rpc: what a gateway and a raw HTTP endpoint say to each other.

The call's body is a `RequestHead`, the messages after it are the request's body as it comes. The
first message of the answer is a `ResponseHead`, the others are the response's body. Of a WebSocket
each message after the heads has one byte before it, `TEXT` or `BINARY`; the last one of the answer
may be `CLOSE` with a code and a reason.
"""

from __future__ import annotations

import msgspec

HANDLER = "handler"
"""Metadata of a raw HTTP endpoint: ``http``, or ``mount`` of a whole application."""

PATH = "path"
"""Metadata of a raw HTTP endpoint: its paths, ``/users/avatars/{id}``."""

METHODS = "method"
"""Metadata of a raw HTTP endpoint: the methods it answers, by commas; without it all of them."""

TEXT = b"t"
BINARY = b"b"
CLOSE = b"c"

WEBSOCKET = "WEBSOCKET"
"""The method of the head of a WebSocket."""


class RequestHead(msgspec.Struct, kw_only=True):
    """The beginning of a request.

    Attributes:
        method: ``GET``; `WEBSOCKET` of one.
        scheme: ``http`` or ``https``.
        path: decoded, from the root of the gateway.
        query: as it came, without ``?``.
        headers: names in lower case, and values.
        version: of HTTP.
        client: address and port of whom the gateway sees.
        body: whether messages with a body follow.
    """

    method: str
    scheme: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    version: str = "1.1"
    client: tuple[str, int] | None = None
    body: bool = False


class ResponseHead(msgspec.Struct, kw_only=True):
    """The beginning of a response; of a WebSocket status 101 accepts it."""

    status: int
    headers: list[tuple[str, str]] = []


encode_head = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(RequestHead).decode
decode_response = msgspec.json.Decoder(ResponseHead).decode
