"""Requests of HTTP/2, told as those of HTTP/1.1 are, so that nobody behind has to know."""

from __future__ import annotations

from typing import Any

from .handing import Note, begin_of
from .request import Changed, Pairs, without

_UNREADABLE = "Bearer \ufffd"


class Http2:
    """An RSGI application to which all requests look alike.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self._begin = begin_of(app)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        """Begin one request."""
        if scope.http_version == "2":
            pairs = alike(scope.headers.items(), scope.authority or "")
            if "authorization" in scope.headers and scope.headers.get("authorization") is None:
                # It cannot be read, and must not be taken for one that was not sent.
                pairs.append(("authorization", _UNREADABLE))
            scope = Changed(scope, pairs)
        return self._begin(scope, proto, note)


def alike(pairs: Pairs, authority: str) -> Pairs:
    """Headers with a `host`, and with one `cookie`, which HTTP/2 may send in parts."""
    cookies = [value for name, value in pairs if name == "cookie"]
    if len(cookies) > 1:
        pairs = [*without(pairs, ("cookie",)), ("cookie", "; ".join(cookies))]
    if authority:
        # A host that says something else is not believed.
        pairs = [*without(pairs, ("host",)), ("host", authority)]
    return pairs
