"""What crosses between the engine and here: texts, and lists of lists as JSON.

A NUL goes in, but cuts what comes out; half a character goes neither way.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

TEXT, BASE64 = range(2)


def crossing(body: bytes) -> tuple[str, int]:
    """A body as a text, and its form: as it is, or in base64."""
    try:
        return body.decode(), TEXT
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), BASE64


def asked(text: str) -> list[list[Any]]:
    """What a realm has queued.

    Raises:
        ValueError: it is no list of lists.
    """
    try:
        return _decode(text)
    except msgspec.DecodeError:
        # Halves of characters are good JSON, but nothing that could be sent.
        return msgspec.convert(_mended(json.loads(text)), list[list[Any]])


_decode = msgspec.json.Decoder(list[list[Any]]).decode


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
    return value
