"""Sub-requests of functions: out to the public internet, or to the hosts that they were allowed.

Where a name leads is looked up once; the connection goes to the address that was looked at, and
each redirect is a request like the first. No proxy of the environment is used. Connections are
shared by the functions of one owner only: some ways to prove who one is prove it of a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import NamedTuple

import httpcore

from microcosmos.base import errors
from microcosmos.base.tasks import background

from .addresses import is_nameable, is_public
from .dialling import LOOKUPS_OF_OWNER, Backend, Names, Once, Resolve
from .filling import Filling, nothing
from .headers import Headers
from .hosts import Hosts, Origin
from .incoming import CONNECT, READ, Incoming, drained, incoming, redirected, told
from .outgoing import (
    FETCH,
    Outgoing,
    Url,
    checked_headers,
    checked_method,
    checked_url,
    defaults,
    framing,
    sized,
)
from .own import Own
from .pool import Pool

BEGUN = 120.0
"""Seconds until an answer has begun, with all redirects before it."""

LONGEST = 3600.0
"""Seconds that a sub-request may take with all of its body."""

AT_ONCE = 4096
"""Sub-requests of all functions under way; further ones wait."""

OF_OWNER = 1024
"""Sub-requests of the functions of one owner under way; further ones wait."""

MAX_REDIRECTS = 20
"""Redirects that are followed."""

_TIDY = 10.0
_OF_ORIGIN = frozenset(("authorization", "cookie", "proxy-authorization"))
_OF_BODY = frozenset(
    ("content-encoding", "content-language", "content-length", "content-location", "content-type")
)


class Trail:
    """Where a sub-request has been led, for who writes that down.

    Attributes:
        origin: the last one that it went to, or was to go to.
        address: the one that it was connected to, empty if it was not.
        port: of that.
        redirects: how many it followed.
    """

    def __init__(self) -> None:
        self.origin: Origin | None = None
        self.address = ""
        self.port = 0
        self.redirects = 0


class Leave(NamedTuple):
    """What a sub-request may do.

    Attributes:
        hosts: where to it may go.
        owner: of the function: connections are shared with others of it.
        filling: fills in secrets.
    """

    hosts: Hosts
    owner: str = ""
    filling: Filling = nothing()


class Fetcher:
    """Does sub-requests; used as ``async with``.

    Args:
        resolve: looks hosts up; the system does unless said.
        tls: how servers are verified; by the usual authorities unless said.
        public: which addresses all functions may reach.
        own: doors of the platform, ``host:port``, which none may.
    """

    def __init__(
        self,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        public: Callable[[str], bool] = is_public,
        own: Iterable[str] = (),
    ) -> None:
        self._names = Names() if resolve is None else None
        self._resolve = Once(resolve or self._names)  # type: ignore[arg-type]
        self._tls = tls or usual_tls()
        self._is_public = public
        self._own = Own(own, self._resolve)
        self._owners: dict[str, _Owner] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Fetcher:
        self._stack.push_async_callback(self._close)
        await self._stack.enter_async_context(background(self._tidy(), "fetch"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def fetch(
        self, request: Outgoing, leave: Leave, trail: Trail | None = None
    ) -> AsyncIterator[Incoming]:
        """Do a sub-request; leaving the block early gives it up.

        Args:
            request: what.
            leave: what it may.
            trail: is told where it is led.

        Raises:
            errors.BadRequest: it cannot be sent.
            errors.Forbidden: it may not go there, or not where it was redirected to, or not with
                a secret.
            errors.BadGateway: nobody answers there, or not in HTTP.
            errors.DeadlineExceeded: the other end is too slow.
        """
        owner = self._owner(leave.owner)
        owner.users += 1
        try:
            # The owner's room first: who waits for that takes none of the others'.
            async with (
                owner.room,
                self._room,
                contextlib.AsyncExitStack() as stack,
                _at_most(LONGEST, "it took longer than"),
            ):
                with told():
                    async with _at_most(BEGUN, "the answer had not begun after"):
                        trail = trail or Trail()
                        answer = await self._answer(request, leave, owner, trail, stack)
                yield answer
        finally:
            owner.users -= 1

    async def _answer(
        self,
        request: Outgoing,
        leave: Leave,
        owner: _Owner,
        trail: Trail,
        stack: contextlib.AsyncExitStack,
    ) -> Incoming:
        url, method, body = checked_url(request.url), checked_method(request), request.body
        trail.origin = url.origin
        headers = checked_headers(request.headers)
        leave.filling.check_url(request.url)
        while True:
            once = await stack.enter_async_context(contextlib.AsyncExitStack())
            response = await self._one(url, method, headers, body, leave, owner, once)
            _note(trail, response)
            target = redirected(response, url)
            if target is None or request.redirect == "manual":
                answer = incoming(response, method, url)
                return answer._replace(headers=leave.filling.scrubbed(answer.headers))
            if request.redirect == "error":
                raise errors.BadGateway(FETCH, f"{url.origin} redirects, and `redirect` is 'error'")
            if trail.redirects == MAX_REDIRECTS:
                detail = f"more than {MAX_REDIRECTS} redirects, the last to {target.origin}"
                raise errors.BadGateway(FETCH, detail)
            status = response.status
            await drained(response)
            await once.aclose()
            if (status == 303 and method not in ("GET", "HEAD")) or (
                status in (301, 302) and method == "POST"
            ):
                method, body = "GET", b""
                headers = [pair for pair in headers if pair[0] not in _OF_BODY]
            elif not isinstance(body, bytes):
                detail = f"{url.origin} redirects a request whose body was streamed"
                raise errors.BadGateway(FETCH, detail)
            if target.origin != url.origin:
                headers = [pair for pair in headers if pair[0] not in _OF_ORIGIN]
                headers = leave.filling.along(target.origin, headers)
            url = trail_to(trail, target)

    async def _one(
        self,
        url: Url,
        method: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        leave: Leave,
        owner: _Owner,
        stack: contextlib.AsyncExitStack,
    ) -> httpcore.Response:
        """One request, redirects aside."""
        origin = url.origin
        if not leave.hosts.allow(origin):
            raise errors.Forbidden(
                FETCH,
                f"{origin} is not among the hosts that this function may fetch from; "
                f"deploy it with `--allow-host {origin}`",
            )
        headers = sized(await leave.filling.fill(origin, headers))
        pool = owner.named if leave.hosts.name(origin) else owner.public
        sent = [
            (b"Host", str(origin).encode()),
            *((name.encode(), value.encode("latin-1")) for name, value in headers),
            *defaults({name for name, _ in headers}),
            *framing(method, body),
        ]
        target = httpcore.URL(
            scheme=origin.scheme, host=origin.host, port=origin.port, target=url.target
        )
        timeout = {"connect": CONNECT, "read": READ, "write": READ, "pool": CONNECT}
        made = httpcore.Request(
            method, target, headers=sent, content=body or None, extensions={"timeout": timeout}
        )
        replay = isinstance(body, bytes)
        return await stack.enter_async_context(pool.send(origin, made, replay=replay))

    def _owner(self, owner: str) -> _Owner:
        known = self._owners.get(owner)
        if known is None:
            known = self._owners[owner] = _Owner(self._pool)
        return known

    def _pool(self, lookups: asyncio.Semaphore, *, named: bool) -> Pool:
        good = is_nameable if named else self._is_public
        return Pool(Backend(self._resolve, good, self._own, lookups), self._tls)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY)
            for name, owner in [*self._owners.items()]:
                await owner.tidy()
                if not owner.users and not len(owner):
                    self._owners.pop(name, None)

    async def _close(self) -> None:
        for owner in self._owners.values():
            await owner.close()
        if self._names is not None:
            self._names.close()


class _Owner:
    """The connections of the functions of one owner, and its share of what there is.

    Attributes:
        public: connections that all of its functions may have.
        named: those that only functions may have which were allowed them by name.
        room: for sub-requests under way.
        users: sub-requests that are under way, or wait.
    """

    def __init__(self, pool: Callable[..., Pool]) -> None:
        lookups = asyncio.Semaphore(LOOKUPS_OF_OWNER)
        self.public = pool(lookups, named=False)
        self.named = pool(lookups, named=True)
        self.room = asyncio.Semaphore(OF_OWNER)
        self.users = 0

    async def tidy(self) -> None:
        await self.public.tidy()
        await self.named.tidy()

    async def close(self) -> None:
        await self.public.close()
        await self.named.close()

    def __len__(self) -> int:
        return len(self.public) + len(self.named)


@functools.cache
def usual_tls() -> ssl.SSLContext:
    """How servers are verified; made once, as it takes a while to read all authorities."""
    return httpcore.default_ssl_context()


@contextlib.asynccontextmanager
async def _at_most(seconds: float, what: str) -> AsyncIterator[None]:
    """Limit a block.

    Raises:
        errors.DeadlineExceeded: it took longer.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise errors.DeadlineExceeded(FETCH, f"{what} {seconds:g} s") from None


def _note(trail: Trail, response: httpcore.Response) -> None:
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    if address:
        trail.address, trail.port = str(address[0]), int(address[1])


def trail_to(trail: Trail, url: Url) -> Url:
    """Note that a redirect is followed."""
    trail.origin, trail.address, trail.port = url.origin, "", 0
    trail.redirects += 1
    return url
