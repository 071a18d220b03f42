"""One JSON a line: answers as they come, and bodies that are taken as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import errors
from microcosmos.rpc import MAX_BODY

KIND = "application/x-ndjson"
KINDS = (KIND, "application/ndjson", "application/jsonl", "application/jsonlines")
"""The names that it goes by."""

_FAILED = (RSGIProtocolClosed, RSGIProtocolError)


class Ndjson:
    """Answers with one JSON a line, and an error as the last one; see `outlet.Form`."""

    kind = KIND
    opening = b""
    beat = b""
    ending = b""

    @staticmethod
    def message(message: bytes) -> bytes:
        """A line."""
        return one_line(message) + b"\n"

    @staticmethod
    def failure(error: errors.Error) -> bytes:
        """The last line."""
        return wrapped(error) + b"\n"


def one_line(message: bytes) -> bytes:
    """A JSON on one line: in JSON an end of a line is nothing but space."""
    if b"\n" in message or b"\r" in message:
        return message.replace(b"\n", b" ").replace(b"\r", b" ")
    return message


def wrapped(error: errors.Error) -> bytes:
    """An error among messages."""
    return b'{"error":%b}' % one_line(error.to_http())


def is_kind(content_type: str) -> bool:
    """Whether a content type is this one."""
    return content_type.partition(";")[0].strip().lower() in KINDS


async def items(
    proto: Any, request: dict[str, str], longest: int = MAX_BODY
) -> AsyncIterator[bytes]:
    """The lines of a body as they come; empty ones are left out.

    Raises:
        errors.BadRequest: the body is compressed, or broke off, maybe in the middle of a line.
        errors.TooLarge: a line has more than ``longest`` bytes.
    """
    if "content-encoding" in request:
        raise errors.BadRequest("gateway", "a body is taken uncompressed: no Content-Encoding")
    rest = bytearray()
    async for part in _parts(proto, request):
        first, *others = part.split(b"\n")
        rest += first
        _check(rest, longest)
        if not others:
            continue
        for line in (bytes(rest), *others[:-1]):
            _check(line, longest)
            if line := line.strip():
                yield line
        rest = bytearray(others[-1])
    if line := bytes(rest).strip():
        yield line


def _check(line: bytes | bytearray, longest: int) -> None:
    if len(line) > longest:
        raise errors.TooLarge("gateway", f"a line of the body is over the limit of {longest} bytes")


async def _parts(proto: Any, request: dict[str, str]) -> AsyncIterator[bytes]:
    """The parts of a body, to its true end."""
    said = request.get("content-length", "")
    size = ends = 0
    try:
        async for part in proto:
            size += len(part)
            if part:
                yield part
            else:
                ends += 1
    except _FAILED:
        ends = 2
    # Granian ends a body with an empty part, and has another where it broke off.
    if ends > 1 or (said and size != int(said)):
        raise errors.BadRequest("gateway", "the body broke off, or its chunks are malformed")
