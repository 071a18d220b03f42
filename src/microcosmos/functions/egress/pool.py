"""Connections to origins, kept for the next request, and shared where they speak HTTP/2.

The pool of httpcore itself looks at every connection for every request, which is slow with a
thousand of them; here one is found at once. The connections are those of httpcore.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator

import httpcore

from .hosts import Origin

IDLE = 30.0
"""Seconds that a connection which nobody uses is kept."""

MAX_IDLE = 32
"""Connections of HTTP/1.1 that are kept for one origin while nobody uses them."""

MAX_KEPT = 256
"""Connections from which on none is kept for an owner's later requests, of any origin."""

MAX_STREAMS = 100
"""Requests on one connection of HTTP/2 until another one is opened."""

_LEARNED = 4096
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_LOST = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)


class _Held:
    """A connection and how many requests are on it."""

    __slots__ = ("busy", "link", "used")

    def __init__(self, link: httpcore.AsyncHTTPConnection) -> None:
        self.link = link
        self.busy = 0
        self.used = False


class Pool:
    """Connections of one kind: all are made by one backend.

    Args:
        backend: opens sockets.
        tls: how servers are verified.
    """

    def __init__(self, backend: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext) -> None:
        self._backend = backend
        self._tls = tls
        self._free: dict[Origin, deque[_Held]] = {}
        self._shared: dict[Origin, list[_Held]] = {}
        # Whether an origin speaks HTTP/2, and who is finding that out just now.
        self._speaks: dict[Origin, bool] = {}
        self._asking: dict[Origin, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def send(
        self, origin: Origin, request: httpcore.Request, *, replay: bool
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request; the response is closed, and the connection free, after the block.

        Args:
            origin: where to.
            request: what.
            replay: whether its body can be sent once more. A request that does no harm twice is
                tried again if the other end has closed a connection that was kept.
        """
        while True:
            held = await self._take(origin)
            again = held.used and replay and request.method in _SAFE
            try:
                response = await self._begin(origin, held, request)
            except httpcore.ConnectionNotAvailable:
                await self._give(origin, held)
                continue
            except _LOST:
                await self._give(origin, held)
                if again:
                    continue
                raise
            except BaseException:
                await self._give(origin, held)
                raise
            break
        try:
            yield response
        finally:
            # In a task of its own: whoever is cancelled must not leave it half closed.
            await asyncio.shield(asyncio.create_task(self._end(origin, held, response)))

    async def _begin(
        self, origin: Origin, held: _Held, request: httpcore.Request
    ) -> httpcore.Response:
        response = await held.link.handle_async_request(request)
        held.used = True
        if origin.scheme == "https":
            self._learn(origin, held, response.extensions.get("http_version") == b"HTTP/2")
        return response

    def _learn(self, origin: Origin, held: _Held, speaks: bool) -> None:
        if len(self._speaks) >= _LEARNED:
            self._speaks.clear()
        self._speaks[origin] = speaks
        if speaks:
            shared = self._shared.setdefault(origin, [])
            if held not in shared:
                shared.append(held)
        self._told(origin)

    def _told(self, origin: Origin) -> None:
        if asking := self._asking.pop(origin, None):
            asking.set()

    async def _take(self, origin: Origin) -> _Held:
        """A connection for one more request."""
        while True:
            for held in self._shared.get(origin, ()):
                if held.busy < MAX_STREAMS and _lives(held):
                    held.busy += 1
                    return held
            free = self._free.get(origin)
            while free:
                held = free.pop()
                if _lives(held):
                    held.busy += 1
                    return held
                await held.link.aclose()
            if origin.scheme == "https" and origin not in self._speaks:
                if asking := self._asking.get(origin):
                    await asking.wait()
                    continue
                self._asking[origin] = asyncio.Event()
            held = _Held(self._open(origin))
            held.busy += 1
            return held

    def _open(self, origin: Origin) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            httpcore.Origin(origin.scheme.encode(), origin.host.encode(), origin.port),
            ssl_context=self._tls,
            keepalive_expiry=IDLE,
            http1=True,
            http2=origin.scheme == "https",
            network_backend=self._backend,
        )

    async def _end(self, origin: Origin, held: _Held, response: httpcore.Response) -> None:
        with contextlib.suppress(Exception):
            await response.aclose()
        await self._give(origin, held)

    async def _give(self, origin: Origin, held: _Held) -> None:
        """A request is over: keep its connection, if it can be used again."""
        held.busy -= 1
        # Who waits for what it speaks finds out by another one, should this have failed.
        self._told(origin)
        shared = self._shared.get(origin, [])
        full = held.busy == 0 and len(self) > MAX_KEPT
        if held in shared:
            if not full and not held.link.is_closed() and held.link.is_available():
                return
            shared.remove(held)
            if not shared:
                self._shared.pop(origin, None)
            if held.busy == 0:
                await held.link.aclose()
            return
        free = self._free.setdefault(origin, deque())
        keep = len(free) < MAX_IDLE and not full
        if keep and held.link.is_idle() and not held.link.is_closed():
            free.append(held)
            return
        if not free:
            self._free.pop(origin, None)
        await held.link.aclose()

    async def tidy(self) -> None:
        """Close what nobody has used for long."""
        for kept in (self._free, self._shared):
            for origin, all_held in [*kept.items()]:
                for held in [one for one in all_held if one.busy == 0 and not _lives(one)]:
                    all_held.remove(held)
                    await held.link.aclose()
                if not all_held:
                    kept.pop(origin, None)

    async def close(self) -> None:
        """Close all of them."""
        for held in [*self._all()]:
            with contextlib.suppress(Exception):
                await held.link.aclose()
        self._free.clear()
        self._shared.clear()

    def __len__(self) -> int:
        return sum(len(held) for kept in (self._free, self._shared) for held in kept.values())

    def _all(self) -> Iterator[_Held]:
        for kept in (*self._free.values(), *self._shared.values()):
            yield from kept


def _lives(held: _Held) -> bool:
    return held.link.is_available() and not held.link.has_expired()
