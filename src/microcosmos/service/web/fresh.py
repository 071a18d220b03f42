"""Answers of 304 to clients that have the current version of a response already.

https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

_KEPT = ("cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary")


def fresh(request: Request, response: Response) -> Response:
    """The response, or 304 in its place if the client has that version."""
    tag = response.headers.get("etag")
    asked = request.headers.get("if-none-match")
    if not tag or not asked or response.status_code != 200:
        return response
    if request.method not in ("GET", "HEAD"):
        return response
    known = {one.strip().removeprefix("W/") for one in asked.split(",")}
    if "*" not in known and tag.removeprefix("W/") not in known:
        return response
    kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
    return Response(status_code=304, headers=kept)
