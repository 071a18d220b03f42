"""Whole numbers written with a point: in JSON ``2.0`` is an integer, which msgspec is strict about.

Programs that have one kind of number write them so. Only what was refused is looked at again, so
nobody else pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from microcosmos.base import codec

LARGEST = 64 * 1024
"""The most bytes of a request that is looked at again."""

_EXACT = 2**53
_ABOUT_FLOATS = ("got `float`", "input_type=float")


def read_again(decode: Callable[[bytes], Any], body: bytes, failed: Exception, service: str) -> Any:
    """Decode what a decoder refused, with whole numbers for whole floats.

    Raises:
        errors.BadRequest: it stays wrong; the text is that of ``failed``.
    """
    text = str(failed)
    if len(body) <= LARGEST and any(words in text for words in _ABOUT_FLOATS):
        try:
            return decode(codec.encode(_whole(msgspec.json.decode(body))))
        except (*codec.DECODE_ERRORS, ValueError):
            pass
    raise codec.bad_input(service, failed) from None


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value
