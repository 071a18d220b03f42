"""What is said on a line to a function worker.

The frames are the lane's (`rpc.frames`): whoever opened the socket, a gateway or the host, numbers
its requests from 1 on; what a worker asks of the host it numbers from `ASKED` on, so that the
number of a stream tells who began it.

    REQUEST  a request, whole            REPLY   an answer, or its beginning
    OPEN     a request, its body follows ERROR   an error's JSON instead of an answer
    ITEM     bytes of a body             END     of a body
    GRANT    so many more bytes of a body may be sent (decimal)
    CANCEL   nobody wants the answer     BEAT    is answered by the same BEAT, as soon as may be
    GOAWAY   of the worker: no new requests, please; it answers those that come, and ends when its
             lines have been closed; of the host: say so, and end

The payload of a REQUEST or OPEN is a `REQUEST_HEAD` (slot, length of the head), the head, the body.
The head of a request to a function is lines of text: method, URL, parameters of the route (JSON,
or empty), headers (JSON pairs), path below the family. The last one may hold line breaks.
Slot 0 is the worker itself: the head is the word of a verb (`LOAD` …), the body its JSON; the
REPLY to it has a JSON body.

The payload of a REPLY is a `REPLY_HEAD` (status, kind of the body, length of the head), the head
(headers as JSON pairs; empty unless the function set any), the body. The bit `STREAMED` of the kind
says that the body follows in ITEMs and an END; WINDOW bytes of it may be sent before a GRANT comes.

A worker asks the host by a REQUEST of its own: the slot is that of the function, the head is the
word of what is asked (`FETCH`, `CALL` …), the body its JSON. The host is whoever said `HOST`.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from .interface import Counts, Unit

REQUEST_HEAD = struct.Struct("<II")
REPLY_HEAD = struct.Struct("<HBI")

ASKED = 1 << 31
"""Streams with numbers from here on were begun by the worker."""

WINDOW = 256 * 1024
"""Bytes of a body that may be sent before a GRANT; a reader grants what it has taken."""

TEXT, HTML, JSON, BYTES, GIVEN = range(5)
"""Kinds of bodies, which tell the content type; `GIVEN` is told by the headers, or not at all."""

STREAMED = 0x80

CONTENT_TYPES = (
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "application/json",
    "application/octet-stream",
)
"""The content types of the first four kinds."""

LOAD = "load"
"""Load a `Unit`, unless its key is loaded already. Answered by a `Loaded`, or an ERROR."""

DROP = "drop"
"""Drop a `Slot`; one that is busy is dropped when it is not. Answered by ``null``."""

CHECK = "check"
"""Look for errors of syntax in a `Source`, without running it; answered by `Checked`."""

HOST = "host"
"""This line is the host's. Answered by a list of `Loaded`."""

EVENT = "event"
"""Run a function by an `Event`; answered by ``null`` when it has been handled, else by an ERROR."""

FETCH = "fetch"
"""Ask for a sub-request: a `Fetch`. Answered like a request to a function."""

CALL = "call"
"""Use a binding: a `Use`. Answered by a JSON body."""

NOTES = "notes"
"""Logs and counts, a `Notes`. Answered by ``null``: until then the worker keeps them."""

NOTE_ROOM = 1024 * 1024
"""Characters of all lines of logs that a worker tells at once; as JSON they are a message yet."""

NOTE_LINE = 200
"""Characters that a line counts beside its own."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that is loaded.

    Attributes:
        key: as of the `Unit`.
        slot: the number by which requests name it, on every line of this worker.
        heap: bytes that it takes, as far as is known.
        namespace: as of the `Unit`.
        name: as of the `Unit`.
        number: as of the `Unit`.
    """

    key: str
    slot: int
    heap: int = 0
    namespace: str = ""
    name: str = ""
    number: int = 0


class Slot(msgspec.Struct, frozen=True):
    """One loaded unit."""

    slot: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be looked at.

    Attributes:
        file: its name.
        code: its text.
        language: of it.
    """

    file: str
    code: str
    language: str = "javascript"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; the form is that of a source without an error.

    Attributes:
        form: ``script``, ``handler`` or ``module``; empty with an error.
        handlers: of the form ``handler``, those that are there: ``handler``, ``consume`` …
        line: of the error, from 1; 0 is not known.
        column: of the error, from 1; 0 is not known.
        message: the error, empty if there is none.
    """

    form: str = ""
    handlers: list[str] = []
    line: int = 0
    column: int = 0
    message: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a function is run by, beside requests.

    Attributes:
        slot: of the function.
        handler: ``consume`` or ``scheduled``, the name of what handles it.
        event: its one argument, as JSON.
    """

    slot: int
    handler: str
    event: msgspec.Raw


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-request.

    Attributes:
        url: absolute.
        method: in capitals.
        headers: pairs.
        body: base64, if it is whole.
        streamed: whether it comes in ITEMs.
        redirect: ``follow``, ``manual`` or ``error``.
        trace: of the request that it is made for.
    """

    url: str
    method: str = "GET"
    headers: list[tuple[str, str]] = []
    body: str = ""
    streamed: bool = False
    redirect: str = "follow"
    trace: str = ""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a binding.

    Attributes:
        binding: ``store``, ``config``, ``events``, ``broker`` or ``call``.
        verb: ``read``, ``publish`` …; of ``call`` the service and endpoint, ``users.read``.
        arguments: as the function gave them.
        trace: of the request that it is made for.
    """

    binding: str
    verb: str
    arguments: list[Any] = []
    trace: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log.

    Attributes:
        slot: of the function.
        level: ``debug``, ``info``, ``warn`` or ``error``.
        text: one line or more.
        time: seconds since the epoch.
        trace: of the request it was written for, if that is known.
    """

    slot: int
    level: str
    text: str
    time: float
    trace: str = ""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to tell.

    Attributes:
        sequence: of these notes, from 1; what is sent again has the same.
        lines: of logs.
        counts: by slots, what has been used since the notes before.
        heaps: by slots, bytes as last seen.
    """

    sequence: int
    lines: list[Line] = []
    counts: dict[int, Counts] = {}
    heaps: dict[int, int] = {}


def pack_request(slot: int, head: bytes, body: bytes = b"") -> bytes:
    """The payload of a REQUEST or OPEN."""
    return REQUEST_HEAD.pack(slot, len(head)) + head + body


def unpack_request(payload: bytes) -> tuple[int, bytes, bytes]:
    """The slot, the head and the body of a REQUEST or OPEN.

    Raises:
        ValueError: it is none.
    """
    if len(payload) < REQUEST_HEAD.size:
        raise ValueError("a request without a head")
    slot, size = REQUEST_HEAD.unpack_from(payload)
    end = REQUEST_HEAD.size + size
    if end > len(payload):
        raise ValueError("a request whose head is cut")
    return slot, payload[REQUEST_HEAD.size : end], payload[end:]


def pack_reply(status: int, kind: int, head: bytes = b"", body: bytes = b"") -> bytes:
    """The payload of a REPLY."""
    return REPLY_HEAD.pack(status, kind, len(head)) + head + body


def unpack_reply(payload: bytes) -> tuple[int, int, bytes, bytes]:
    """The status, the kind, the head and the body of a REPLY.

    Raises:
        ValueError: it is none.
    """
    if len(payload) < REPLY_HEAD.size:
        raise ValueError("an answer without a head")
    status, kind, size = REPLY_HEAD.unpack_from(payload)
    end = REPLY_HEAD.size + size
    if end > len(payload):
        raise ValueError("an answer whose head is cut")
    return status, kind, payload[REPLY_HEAD.size : end], payload[end:]


encode = msgspec.json.Encoder().encode
decode_unit = msgspec.json.Decoder(Unit).decode
decode_loaded = msgspec.json.Decoder(Loaded).decode
decode_headers = msgspec.json.Decoder(list[tuple[str, str]]).decode
