"""Request ids: what a client calls its request is said again on the answer."""

from __future__ import annotations

import re
from typing import Any

from .handing import Note, begin_of
from .request import Noted

NAME = "x-request-id"
LONGEST = 128
"""The most characters of a request id; a longer one is no id."""

_ID = re.compile(rf"[!-~]{{1,{LONGEST}}}")


class RequestIds:
    """An RSGI application whose answers carry the `X-Request-Id` of their requests.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self._begin = begin_of(app)

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        """Begin one request; one without an id pays for a look at its headers."""
        if NAME in scope.headers and (told := request_id(scope.headers)):
            more = [(NAME, told)]
            if "origin" in scope.headers:
                more.append(("access-control-expose-headers", "X-Request-Id"))
            proto = Noted(proto, more)
        return self._begin(scope, proto, note)


def request_id(headers: Any) -> str:
    """The id that a request has from its client: printable, and of bounded length; else empty."""
    told: str | None = headers.get(NAME)
    return told if told is not None and _ID.fullmatch(told) else ""
