"""Index keys as text whose order, by code point, is the order of the keys.

Booleans come first (false, true), then numbers, whole and not, by what they are worth, then text
by code point. Each form ends by itself: none is the beginning of another.
"""

from __future__ import annotations

import math
from hashlib import sha256

from microcosmos.base import errors

IndexKey = str | int | float | bool
"""What an index is ordered by."""

MAX_INDEX_KEY = 400
"""The longest index key that is text, in bytes of UTF-8; a NUL counts twice."""

_END = "\x00\x01"
_NUL = "\x00\x02"
_CUT = "\x00\x03"

_BIAS = 4096  # above the least exponent of a number, -1073
_COMPLEMENT = (1 << 80) - 1


def encode(key: IndexKey) -> str:
    """An index key as text that sorts like it.

    Raises:
        errors.BadRequest: it is no text, number or boolean, or a number without an order.
        errors.TooLarge: it is longer than `MAX_INDEX_KEY`.
    """
    if isinstance(key, bool):
        return f"b{key:d}"
    if isinstance(key, int | float):
        return _number(key)
    if not isinstance(key, str):
        raise _bad(f"an index key is text, a number or a boolean, not {type(key).__name__}")
    escaped = _escaped(key)
    if (size := _size(escaped)) > MAX_INDEX_KEY:
        detail = f"an index key has at most {MAX_INDEX_KEY} bytes, not {size}: {key[:40]!r}…"
        raise errors.TooLarge("store.index", detail)
    return f"t{escaped}{_END}"


def prefix(text: str) -> str:
    """How the forms of all texts begin that begin like this; empty for those of all keys."""
    return f"t{_escaped(text)}" if text else ""


def name(key: str, longest: int) -> str:
    """A record's key as a part of another: it ends by itself, and sorts as the key does.

    Of a key whose form is longer than so many bytes there is only the beginning, and a hash of all.
    """
    escaped = _escaped(key)
    if _size(escaped) <= longest:
        return escaped + _END
    return escaped.encode()[: longest - 80].decode(errors="ignore") + _CUT + digest(key)


def digest(text: str) -> str:
    """A hash of text, in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def _number(number: float) -> str:
    if number == 0:
        return "n1"
    if isinstance(number, int):
        exponent = abs(number).bit_length()
        if exponent > 64:
            raise _bad(f"a whole number of an index has at most 64 bits, not {exponent}")
        digits = abs(number) << (64 - exponent)
    else:
        if not math.isfinite(number):
            raise _bad(f"{number} has no place in an index")
        fraction, exponent = math.frexp(abs(number))
        digits = int(math.ldexp(fraction, 64))
    # Sixteen bits of exponent, then sixty-four of what it scales, which begin with a one.
    whole = (exponent + _BIAS) << 64 | digits
    return f"n2{whole:020x}" if number > 0 else f"n0{_COMPLEMENT - whole:020x}"


def _escaped(text: str) -> str:
    return text.replace("\x00", _NUL)


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise _bad(f"{text[:40]!r} is not valid Unicode") from None


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest("store.index", detail)
