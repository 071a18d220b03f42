"""From what a realm says of an answer to the payload of a REPLY.

It is one text: a letter, then what belongs to it.

    t  a text                            j  JSON
    b  bytes, as base64                  v  an event that was handled
    r  a Response: status, headers as JSON, ``t`` or ``b`` and the body, a line each
    s  a Response whose body follows: status, headers
    x  the function has thrown           n  its answer is none: why
    m  it has met a limit: which, or the id of the error
"""

from __future__ import annotations

import base64
import binascii
import functools
import re

import msgspec

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from . import failures

TEXT_HEAD = wire.pack_reply(200, wire.TEXT)
"""What an answer that is a text begins with."""

JSON_HEAD = wire.pack_reply(200, wire.JSON)

COMMON = {"t": TEXT_HEAD, "j": JSON_HEAD}
"""The same by the letter, for those that are nothing but a head and what follows the letter."""

_HTML_HEAD = wire.pack_reply(200, wire.HTML)
_BYTES_HEAD = wire.pack_reply(200, wire.BYTES)
HANDLED = wire.pack_reply(200, wire.JSON, b"", b"null")

_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)", re.IGNORECASE)
_USUAL = 512
"""Characters of headers that are remembered."""

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class Answer:
    """An answer.

    Attributes:
        payload: of the REPLY.
        size: bytes of its body.
        streamed: whether the body follows.
    """

    __slots__ = ("payload", "size", "streamed")

    def __init__(self, payload: bytes, size: int, *, streamed: bool = False) -> None:
        self.payload = payload
        self.size = size
        self.streamed = streamed


def texts(said: str, limits: Limits) -> Answer:
    """The answer that is a text."""
    body = said.encode()
    # Blanks and `<` are all that a page can begin with, and few texts do.
    if body[:1] <= b"<" and _HTML.match(body):
        return _whole(_HTML_HEAD, body, limits)
    return _whole(TEXT_HEAD, body, limits)


def answer(said: str, limits: Limits) -> Answer:
    """The answer that a realm tells.

    Raises:
        errors.Error: it is an error.
    """
    try:
        return _answer(said, limits)
    except (ValueError, IndexError, binascii.Error, msgspec.DecodeError):
        raise failures.unfit("something that cannot be sent") from None


def _answer(said: str, limits: Limits) -> Answer:
    rest = said[1:]
    match said[:1]:
        case "t":
            return texts(rest, limits)
        case "j":
            return _whole(JSON_HEAD, rest.encode(), limits)
        case "b":
            return _whole(_BYTES_HEAD, base64.b64decode(rest), limits)
        case "r":
            status, pairs, body = rest.split("\n", 2)
            whole = base64.b64decode(body[1:]) if body[0] == "b" else body[1:].encode()
            return _whole(_head(status, pairs, wire.GIVEN), whole, limits)
        case "s":
            status, pairs, _ = rest.split("\n", 2)
            return Answer(_head(status, pairs, wire.GIVEN | wire.STREAMED), 0, streamed=True)
        case "v":
            return Answer(HANDLED, 0)
        case "x":
            raise failures.exception()
        case "n":
            raise failures.unfit(rest)
        case "m":
            raise _limited(rest, limits)
    raise ValueError(said[:1])


def _limited(which: str, limits: Limits) -> errors.Error:
    if which == "functions.body":
        return failures.body(limits)
    which = which.rpartition(".")[2]
    if which == "null":
        return failures.exception()
    return failures.limit(which, limits)


def _whole(head: bytes, body: bytes, limits: Limits) -> Answer:
    if len(body) > limits.response:
        raise failures.limit("output", limits, len(body))
    return Answer(head + body, len(body))


def _head(status: str, pairs: str, kind: int) -> bytes:
    """What an answer begins with; most functions give few different ones."""
    if len(pairs) > _USUAL:
        return _checked_head(status, pairs, kind)
    return _known_head(status, pairs, kind)


def _checked_head(status: str, pairs: str, kind: int) -> bytes:
    number = int(status)
    if not 200 <= number <= 599:
        raise ValueError(status)
    # What user code has patched may have been used to make them.
    for name, value in wire.decode_headers(pairs) if pairs else ():
        if not name or _CONTROL.search(name) or _CONTROL.search(value):
            raise ValueError(name)
    return wire.pack_reply(number, kind, pairs.encode())


_known_head = functools.lru_cache(maxsize=256)(_checked_head)
