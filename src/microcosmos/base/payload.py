"""Payloads: values of an author's own types as JSON, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


def _to_foreign(value: Any) -> Any:
    """Let pydantic models be written by their own rules."""
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")


def _from_foreign(kind: Any, value: Any) -> Any:
    """Let pydantic models be read by their own rules."""
    if kind is object:
        return value
    if validate := getattr(kind, "model_validate", None):
        return validate(value)
    raise NotImplementedError(f"no way to read a {kind}")


encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_to_foreign).encode
"""Compact JSON of a value; TypeError or NotImplementedError if JSON cannot carry it."""


def decoder(kind: Any, *, lenient: bool = False) -> Callable[[bytes], Any]:
    """What reads JSON into a type; it raises `codec.DECODE_ERRORS`, and pydantic its own.

    Args:
        kind: the type.
        lenient: texts are accepted where numbers and booleans are due.

    Raises:
        TypeError: a type that JSON cannot carry.
    """
    return msgspec.json.Decoder(kind, strict=not lenient, dec_hook=_from_foreign).decode
