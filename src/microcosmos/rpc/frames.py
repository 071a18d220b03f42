"""The frames of the lane: a length, a kind, a stream number, a payload.

    u32 length of what follows │ u8 kind │ u32 stream │ payload

    REQUEST  a `Call` in MessagePack     REPLY    the answer's bytes
    ERROR    an error's JSON             CANCEL   the caller no longer waits
    OPEN     a `Call` that streams       ITEM     one message of the stream
    END      no more messages come       GRANT    so many more bytes may be sent
    BEAT     this end is still there     GOAWAY   no new calls on this line, please
    DATA     more of a long message

Messages over `CHUNK` bytes are cut: the first frame's kind has the `MORE` bit, DATA frames
follow, the last one without it. Frames of other streams go in between, so that one large body
delays nobody.
"""

from __future__ import annotations

import struct

import msgspec

from microcosmos.base import errors

from .interface import MAX_BODY, Call

REQUEST, REPLY, ERROR, CANCEL, OPEN, ITEM, END, GRANT, BEAT, GOAWAY, DATA = range(1, 12)
MORE = 0x80

CHUNK = 64 * 1024
HEADER = struct.Struct("<IBI")
HEAD = HEADER.size
_AFTER_LENGTH = HEAD - 4
_LONG = (REQUEST, REPLY, ERROR, OPEN, ITEM)
LONGEST = CHUNK + HEAD
# A call's names and metadata ride in the same message as its body.
MAX_MESSAGE = MAX_BODY + 256 * 1024

encode_call = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode


def pack(kind: int, stream: int, payload: bytes) -> bytes:
    """One whole frame; the payload is at most `CHUNK` bytes."""
    return HEADER.pack(len(payload) + _AFTER_LENGTH, kind, stream) + payload


def chunks(kind: int, stream: int, payload: bytes) -> list[bytes]:
    """The frames of a message of any size."""
    if len(payload) <= CHUNK:
        return [pack(kind, stream, payload)]
    parts = [payload[at : at + CHUNK] for at in range(0, len(payload), CHUNK)]
    kinds = [kind, *[DATA] * (len(parts) - 1)]
    last = len(parts) - 1
    return [
        pack(k if at == last else k | MORE, stream, part)
        for at, (k, part) in enumerate(zip(kinds, parts, strict=True))
    ]


def goes_on(frame: bytes) -> bool:
    """Whether a frame is the continuation of a message."""
    return frame[4] & ~MORE == DATA


class Reader:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: dict[int, tuple[int, list[bytes], int]] = {}

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The (kind, stream, payload) of every message that ``data`` completes.

        Raises:
            errors.BadRequest: the bytes are not of this protocol, or over its limits.
        """
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        messages: list[tuple[int, int, bytes]] = []
        while end - at >= HEAD:
            size, kind, stream = HEADER.unpack_from(buffer, at)
            if size > LONGEST or size < _AFTER_LENGTH:
                raise errors.BadRequest("rpc.lane", "a frame of an impossible length")
            stop = at + 4 + size
            if stop > end:
                break
            payload = buffer[at + HEAD : stop]
            at = stop
            if 0 < kind < DATA:
                messages.append((kind, stream, payload))
            elif (message := self._assemble(kind, stream, payload)) is not None:
                messages.append(message)
        self._rest = buffer[at:] if at < end else b""
        return messages

    def _assemble(self, kind: int, stream: int, payload: bytes) -> tuple[int, int, bytes] | None:
        if kind & ~MORE != DATA:
            if kind & ~MORE not in _LONG:
                raise errors.BadRequest("rpc.lane", "a frame of an unknown kind")
            self._parts[stream] = (kind & ~MORE, [payload], len(payload))
            return None
        first, parts, size = self._parts.get(stream, (0, [], 0))
        if first == CANCEL:
            if not kind & MORE:
                del self._parts[stream]
            return None
        if not first or size + len(payload) > MAX_MESSAGE:
            raise errors.BadRequest("rpc.lane", "a message over the limit, or its end alone")
        parts.append(payload)
        if kind & MORE:
            self._parts[stream] = (first, parts, size + len(payload))
            return None
        del self._parts[stream]
        return first, stream, b"".join(parts)

    def forget(self, stream: int) -> None:
        """The rest of a message is no longer wanted, though it may still come."""
        if stream in self._parts:
            self._parts[stream] = (CANCEL, [], 0)
