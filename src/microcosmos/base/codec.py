"""JSON in and out, with every way a decoder can fail turned into one BadRequest."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from . import errors

T = TypeVar("T")

encode = msgspec.json.encode
"""Compact JSON bytes of any supported value."""

# Deep nesting surfaces as RecursionError and bad UTF-8 as UnicodeError, beside msgspec's own.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


def bad_input(id: str, exc: Exception) -> errors.BadRequest:
    """The 400 for an exception of a decoder; msgspec's text names the path (``$.age``)."""
    if isinstance(exc, RecursionError):
        return errors.BadRequest(id, "the JSON is nested too deeply")
    if isinstance(exc, UnicodeError):
        return errors.BadRequest(id, "the text is not valid UTF-8")
    text = str(exc)
    # A sentence of msgspec goes on after our colon; "JSON" keeps its capital.
    return errors.BadRequest(id, text if text[1:2].isupper() else text[:1].lower() + text[1:])


def decode(data: bytes | str, type: type[T] | Any = Any, *, id: str = "codec") -> T:
    """Decode JSON into ``type``.

    Raises:
        errors.BadRequest: malformed or of the wrong shape; the detail names the field's path.
    """
    try:
        return msgspec.json.decode(data, type=type)
    except DECODE_ERRORS as exc:
        raise bad_input(id, exc) from None


def indent(data: bytes | str) -> str:
    """JSON text again, indented by two spaces for people."""
    text = data.decode() if isinstance(data, bytes) else data
    return msgspec.json.format(text, indent=2)
