"""Replaying: a request to a function in a world that is the same again."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote, urlsplit

import msgspec

from microcosmos.base import context, errors
from microcosmos.functions import replay, wire
from microcosmos.functions.calling import Caller
from microcosmos.functions.interface import Live, Replay
from microcosmos.functions.invoking import METHOD, OWN, SAFE, target_of
from microcosmos.functions.requests import Invoked, InvokeRequest
from microcosmos.functions.routing import Found, Routing
from microcosmos.functions.spending import check_spent
from microcosmos.functions.workers import Replaying, Where

from .running import Answer, Find, whole

ORIGIN = "http://localhost"
"""What the URL of each request begins with; who asks for it from where makes no difference."""

GRACE = 1.0
"""Seconds beyond its own limit that an answer is waited for."""


class Replays:
    """Answers requests in replays: by the newest version that gets requests.

    Args:
        caller: sends requests to workers.
        find: knows the functions.
    """

    def __init__(self, caller: Caller, find: Find) -> None:
        self._caller = caller
        self._find = find

    async def run(self, replaying: Replaying) -> Invoked:
        """See `workers.Workers.replay`."""
        try:
            return _invoked(await self._answer(replaying), replaying.request.method)
        except errors.Error as error:
            return _failed(error)

    async def _answer(self, replaying: Replaying) -> Answer:
        request = replaying.request
        request = msgspec.structs.replace(request, method=request.method.upper())
        live = self._find(replaying.namespace, request.name)
        if live is None or not live.shares:
            raise errors.NotFound("functions", f"there is no function {request.name}")
        if not METHOD.fullmatch(request.method):
            raise errors.BadRequest("functions", f"method: {request.method!r:.40} is none")
        check_spent(live)
        world = request.replay or Replay()
        found = _found(live, request)
        share = found.target.share
        key = replay.key_of(share.key, world)
        where = Where(live.namespace, live.name, share.number, key, replay=world)
        try:
            payload = await self._caller.run(
                where,
                _head(request, found, key),
                request.body,
                timeout=share.wall + GRACE,
                safe=request.method in SAFE,
            )
            return await whole(payload, request.name)
        finally:
            self._caller.forget(key)


def _found(live: Live, request: InvokeRequest) -> Found:
    """What answers a request, of one version."""
    newest = max(live.shares, key=lambda share: share.number)
    routing = Routing()
    routing.put(msgspec.structs.replace(live, shares=[newest]))
    path = unquote(urlsplit(target_of(request)).path)
    if (found := routing.find(path)) is None:
        raise errors.NotFound("functions", f"{path[:200]} is no path of {request.name}")
    return found


def _head(request: InvokeRequest, found: Found, key: str) -> bytes:
    """The head of a request, see `wire`; it has nothing in it that is another one each time."""
    pairs = [("host", "localhost")]
    for name, value in request.headers:
        title, text = context.sendable(name, value)
        if title.lower() not in OWN:
            pairs.append((title.lower(), text))
    if request.body:
        pairs.append(("content-length", str(len(request.body))))
    pairs.append((context.TRACE.lower(), hashlib.sha256(key.encode()).hexdigest()[:32]))
    lines = (
        request.method.encode(),
        f"{ORIGIN}{target_of(request)}".encode(),
        found.params,
        wire.encode(pairs),
        found.path.encode(),
    )
    return b"\n".join(lines)


def _invoked(answer: Answer, method: str) -> Invoked:
    """An answer as it would come by HTTP."""
    headers = list(answer.headers)
    given = {name.lower() for name, _ in headers}
    if answer.kind < wire.GIVEN:
        own = [("content-type", wire.CONTENT_TYPES[answer.kind])]
        if answer.kind == wire.TEXT:
            own.append(("x-content-type-options", "nosniff"))
        headers = [*(pair for pair in own if pair[0] not in given), *headers]
    body = b"" if method == "HEAD" else answer.body
    return Invoked(status=answer.status, headers=headers, body=body)


def _failed(error: errors.Error) -> Invoked:
    code = error.code if 400 <= error.code <= 599 else 500
    headers = [("content-type", "application/json")]
    if error.retry_after > 0:
        headers.append(("retry-after", f"{error.retry_after:.0f}"))
    return Invoked(status=code, headers=headers, body=error.to_http())
