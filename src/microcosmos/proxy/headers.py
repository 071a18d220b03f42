"""Request headers of a gRPC call as what an rpc call carries: metadata and a timeout."""

from __future__ import annotations

from collections.abc import Iterable

from microcosmos.base import errors

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

    __slots__ = ("json", "metadata", "timeout")

    def __init__(self, pairs: Iterable[tuple[str, str | bytes]], deadline: float | None) -> None:
        self.metadata: dict[str, str] = {}
        self.timeout = deadline
        self.json = False
        for name, value in pairs:
            if isinstance(value, bytes) or name.startswith(("grpc-", ":")):
                continue
            if name == "timeout":
                self.timeout = _sooner(deadline, value)
            elif name == "x-content-type":
                self.json = value.partition(";")[0].endswith("json")
            elif name not in _OWN:
                known = self.metadata.get(name)
                # A name may come several times; as in HTTP that is one list.
                self.metadata[name] = value if known is None else f"{known}, {value}"


def _sooner(deadline: float | None, text: str) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        detail = f"header timeout: {text[:40]!r} is no number of nanoseconds"
        raise errors.BadRequest("proxy", detail)
    timeout = int(text) / 1e9
    return timeout if deadline is None else min(timeout, deadline)
