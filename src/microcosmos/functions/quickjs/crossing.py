"""Bytes into the engine, which takes texts only, and no NUL in them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

TEXT, ESCAPED, BASE64 = range(3)


def crossing(body: bytes) -> tuple[str, int]:
    """A body as a text, and its form: as it is, as a JSON string, or in base64."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), BASE64
    if "\0" in text:
        return json.dumps(text), ESCAPED
    return text, TEXT


def head(said: bytes) -> str:
    """The head of a request; what cannot be in a text becomes U+FFFD."""
    text = said.decode("utf-8", "replace")
    return text.replace("\0", "\ufffd") if "\0" in text else text


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
