"""Headers of sub-requests: which are the connection's, and what one may be made of."""

from __future__ import annotations

import re

Headers = list[tuple[str, str]]
"""Names in small letters, and values."""

OURS = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)
"""Of the connection, not of the request: those of functions are left out, as browsers do it."""

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header."""

BAD_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
"""What no value may have in it."""


def size_of(headers: Headers) -> int:
    """Bytes that headers are on a connection, about."""
    return sum(len(name) + len(value) + 4 for name, value in headers)
