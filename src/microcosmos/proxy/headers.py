"""Request headers of a gRPC call as what an rpc call carries: metadata and a timeout."""

from __future__ import annotations

import re
from collections.abc import Iterable

from microcosmos.base import context, errors

PROTO3_JSON = "application/grpc+json"
"""The ``x-content-type`` of payloads in proto3's JSON; of others that end so they are plain."""

_TRACE = context.TRACE.lower()
_HEX = re.compile("[0-9a-f]{32}")

# These speak of the gRPC connection and of the payload, not of the call.
_OWN = frozenset(("timeout", "x-content-type", "content-type", "user-agent", "te"))


class Headers:
    """What the headers of one call say.

    Args:
        pairs: names in lower case, and values; those of ``-bin`` names are bytes.
        deadline: seconds that gRPC's own deadline leaves, or None.

    Raises:
        errors.BadRequest: ``timeout`` is no number of nanoseconds.
    """

    __slots__ = ("json", "metadata", "proto3", "timeout")

    def __init__(self, pairs: Iterable[tuple[str, str | bytes]], deadline: float | None) -> None:
        self.metadata: dict[str, str] = {}
        self.timeout = deadline
        self.json = self.proto3 = False
        for name, value in pairs:
            if isinstance(value, bytes) and name == "authorization":
                # It cannot be read, and must not be taken for one that was not sent.
                value = "\ufffd"
            if isinstance(value, bytes) or name.startswith(("grpc-", ":")):
                continue
            if name == "timeout":
                self.timeout = _sooner(deadline, value)
            elif name == "x-content-type":
                kind = value.partition(";")[0]
                self.proto3 = kind == PROTO3_JSON
                self.json = kind.endswith("json") and not self.proto3
            elif name not in _OWN:
                known = self.metadata.get(name)
                # A name may come several times; as in HTTP that is one list.
                self.metadata[name] = value if known is None else f"{known}, {value}"

    def trace(self) -> str:
        """The id of the call's trace; it gets one if it has none."""
        trace = self.metadata.get(_TRACE, "")
        if not _HEX.fullmatch(trace):
            trace = self.metadata[_TRACE] = context.new_trace()
        return trace


def _sooner(deadline: float | None, text: str) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        detail = f"header timeout: {text[:40]!r} is no number of nanoseconds"
        raise errors.BadRequest("proxy", detail)
    timeout = int(text) / 1e9
    return timeout if deadline is None else min(timeout, deadline)
