"""Answers of foreign services: they may be empty, or no JSON at all."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors

from .interface import Call

_raw = msgspec.json.Decoder(msgspec.Raw)
_QUOTED = 60


def checked(call: Call, answer: bytes) -> bytes:
    """The answer as every caller may take it: JSON; an empty one is an empty object.

    Raises:
        errors.BadGateway: it is no JSON.
    """
    if not answer:
        return b"{}"
    try:
        _raw.decode(answer)
        answer.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        start = answer[:_QUOTED].decode("utf-8", "replace")
        more = "…" if len(answer) > _QUOTED else ""
        detail = f"{call.service} {call.endpoint} answered what is no JSON: {start!r}{more}"
        raise errors.BadGateway(call.service, detail) from None
    return answer
