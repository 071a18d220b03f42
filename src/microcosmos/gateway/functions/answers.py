"""What a worker answers, as HTTP: status, headers and body, checked, since nobody trusts it."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import codec, errors
from microcosmos.functions.lines import Streamed
from microcosmos.functions.wire import (
    CONTENT_TYPES,
    GIVEN,
    REPLY_HEAD,
    STREAMED,
    TEXT,
    decode_headers,
)
from microcosmos.gateway.streams.room import Room

from .heads import HOP, Pairs

log = logging.getLogger("microcosmos.gateway")

MAX_HEADERS = 64 * 1024
"""The most bytes of the headers that a function answers with, as JSON."""

FAILED = (RSGIProtocolClosed, RSGIProtocolError)
"""What is raised when a client has gone."""

_SIZE = REPLY_HEAD.size
_unpack = REPLY_HEAD.unpack_from
_NOSNIFF = ("x-content-type-options", "nosniff")
_PLAIN: list[Pairs] = [[("content-type", kind)] for kind in CONTENT_TYPES]
_PLAIN[TEXT].append(_NOSNIFF)
_BODILESS = frozenset({204, 205, 304})
# Of an answer these are ours to tell: they say how the connection carries it.
_OURS = HOP | {"content-length"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class Bad(errors.InternalServerError):
    """An answer that cannot be sent."""


def send(proto: Any, payload: bytes, *, bodiless: bool = False) -> None:
    """Answer by the payload of a REPLY whose body is in it.

    Args:
        proto: the exchange.
        payload: of the REPLY.
        bodiless: whether the request was a HEAD.

    Raises:
        Bad: it cannot be sent; nothing has been.
    """
    status, kind, size = _unpack(payload)
    if size or bodiless or status != 200 or kind >= GIVEN:
        _send_checked(proto, payload, bodiless)
        return
    proto.response_bytes(200, _PLAIN[kind], payload[_SIZE:])


def _send_checked(proto: Any, payload: bytes, bodiless: bool) -> None:
    status, headers = read(payload)
    body = payload[_SIZE + _unpack(payload)[2] :]
    if status in _BODILESS:
        proto.response_empty(status, headers)
    elif bodiless:
        proto.response_empty(status, [*headers, ("content-length", str(len(body)))])
    else:
        proto.response_bytes(status, headers, body)


async def stream(
    proto: Any, payload: Streamed, room: Room, who: str, *, bodiless: bool = False
) -> None:
    """Answer by a REPLY whose body follows, as fast as its client reads.

    Args:
        proto: the exchange.
        payload: of the REPLY.
        room: how much the client takes.
        who: answers, for the log.
        bodiless: whether the request was a HEAD.

    Raises:
        Bad: it cannot be sent; nothing has been.
    """
    body = payload.body
    try:
        status, headers = read(payload)
        if bodiless or status in _BODILESS:
            proto.response_empty(status, headers)
            return
        sending = proto.response_stream(status, headers)
        try:
            async for part in body:
                await sending.send_bytes(part)
                room.give(len(part))
                await room.wait()
        except FAILED:
            return
        except errors.Error as error:
            # The head is out: that the connection ends early is all that can still be told.
            log.warning("function %s failed in mid-answer: %s", who, error)
            await asyncio.to_thread(room.abort)
        finally:
            room.leave()
    finally:
        body.cancel()


def read(payload: bytes) -> tuple[int, Pairs]:
    """The status and the headers of an answer.

    Raises:
        Bad: they cannot be sent.
    """
    status, kind, size = _unpack(payload)
    kind &= ~STREAMED
    if not 200 <= status <= 599:
        raise Bad("functions.answer", f"it answered with the status {status}")
    if kind > GIVEN:
        raise Bad("functions.answer", "it answered with a body of no kind")
    if size > MAX_HEADERS:
        raise Bad("functions.answer", f"its headers are over {MAX_HEADERS} bytes")
    given = _given(payload[_SIZE : _SIZE + size]) if size else []
    if kind == GIVEN:
        return status, given
    names = {name for name, _ in given}
    return status, [*(pair for pair in _PLAIN[kind] if pair[0] not in names), *given]


def _given(head: bytes) -> Pairs:
    try:
        pairs = decode_headers(head)
    except codec.DECODE_ERRORS:
        raise Bad("functions.answer", "its headers cannot be read") from None
    given: Pairs = []
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise Bad("functions.answer", f"{name[:80]!r} cannot be the name of a header")
        if _BAD_VALUE.search(value):
            raise Bad("functions.answer", f"the value of the header {name[:80]} cannot be sent")
        if (lowered := name.lower()) not in _OURS:
            given.append((lowered, value))
    return given
