"""Sub-requests of functions: out to the public internet, or to the hosts that they were allowed.

Where a name leads is looked up once; the connection goes to the address that was looked at, and
each redirect is a request like the first. No proxy of the environment is used. Connections are
shared by the functions of one owner only: some ways to prove who one is prove it of a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from microcosmos.base import errors
from microcosmos.base.tasks import background

from .addresses import canonical, is_nameable, is_public, kind_of
from .filling import Filling, nothing
from .headers import BAD_VALUE, NAME, OURS, Headers, size_of
from .hosts import Hosts, Origin
from .own import Own
from .pool import Pool

CONNECT = 10.0
"""Seconds to look a host up and connect to it."""

READ = 60.0
"""Seconds of silence of a server after which it is given up."""

BEGUN = 120.0
"""Seconds until an answer has begun, with all redirects before it."""

LONGEST = 3600.0
"""Seconds that a sub-request may take with all of its body."""

AT_ONCE = 4096
"""Sub-requests of all functions under way; further ones wait."""

OF_OWNER = 1024
"""Sub-requests of the functions of one owner under way; further ones wait."""

LOOKUPS = 64
"""Names that are looked up at once."""

LOOKUPS_OF_OWNER = 16
"""Names that are looked up at once for one owner: some take long, and others are not to wait."""

MAX_URL = 16 * 1024
"""The longest URL, in characters."""

MAX_HEADERS = 64 * 1024
"""The most bytes of a request's headers, and of a response's."""

MAX_REDIRECTS = 20
"""Redirects that are followed."""

_ID = "functions.fetch"
_TIDY = 10.0
_SOON = 0.5
_PIECE = 64 * 1024
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BODILESS = frozenset((204, 205, 304))

_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
_OF_ORIGIN = frozenset(("authorization", "cookie", "proxy-authorization"))
_OF_BODY = frozenset(
    ("content-encoding", "content-language", "content-length", "content-location", "content-type")
)
_CODINGS = ("gzip", "x-gzip", "deflate")

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_FORBIDDEN_METHODS = ("CONNECT", "TRACE", "TRACK")
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; raises OSError if there are none."""


class Outgoing(NamedTuple):
    """A sub-request.

    Attributes:
        url: absolute.
        method: in capitals.
        headers: pairs.
        body: whole, or as it comes.
        redirect: ``follow``, ``manual`` or ``error``.
    """

    url: str
    method: str = "GET"
    headers: Iterable[tuple[str, str]] = ()
    body: bytes | AsyncIterator[bytes] = b""
    redirect: str = "follow"


class Incoming(NamedTuple):
    """The answer to one.

    Attributes:
        status: its code.
        headers: pairs, names in small letters.
        body: its parts; what was compressed is not any more.
        url: where it came from in the end.
    """

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    url: str


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
        self._names = _Names() if resolve is None else None
        self._resolve = _Once(resolve or self._names)  # type: ignore[arg-type]
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
                with _told():
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
        url, method, body = _checked_url(request.url), _checked_method(request), request.body
        trail.origin = url.origin
        headers = _checked_headers(request.headers)
        leave.filling.check_url(request.url)
        while True:
            once = await stack.enter_async_context(contextlib.AsyncExitStack())
            response = await self._one(url, method, headers, body, leave, owner, once)
            _note(trail, response)
            target = _redirected(response, url)
            if target is None or request.redirect == "manual":
                answer = _incoming(response, method, url)
                return answer._replace(headers=leave.filling.scrubbed(answer.headers))
            if request.redirect == "error":
                raise errors.BadGateway(_ID, f"{url.origin} redirects, and `redirect` is 'error'")
            if trail.redirects == MAX_REDIRECTS:
                detail = f"more than {MAX_REDIRECTS} redirects, the last to {target.origin}"
                raise errors.BadGateway(_ID, detail)
            status = response.status
            await _drain(response)
            await once.aclose()
            if (status == 303 and method not in ("GET", "HEAD")) or (
                status in (301, 302) and method == "POST"
            ):
                method, body = "GET", b""
                headers = [pair for pair in headers if pair[0] not in _OF_BODY]
            elif not isinstance(body, bytes):
                detail = f"{url.origin} redirects a request whose body was streamed"
                raise errors.BadGateway(_ID, detail)
            if target.origin != url.origin:
                headers = [pair for pair in headers if pair[0] not in _OF_ORIGIN]
                headers = leave.filling.along(target.origin, headers)
            url = trail_to(trail, target)

    async def _one(
        self,
        url: _Url,
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
                _ID,
                f"{origin} is not among the hosts that this function may fetch from; "
                f"deploy it with `--allow-host {origin}`",
            )
        headers = _sized(await leave.filling.fill(origin, headers))
        pool = owner.named if leave.hosts.name(origin) else owner.public
        sent = [
            (b"Host", str(origin).encode()),
            *((name.encode(), value.encode("latin-1")) for name, value in headers),
            *_defaults({name for name, _ in headers}),
            *_framing(method, body),
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
        return Pool(_Backend(self._resolve, good, self._own, lookups), self._tls)

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


class _Url(NamedTuple):
    """A URL that requests can go to."""

    text: str
    origin: Origin
    target: str


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses of a host that are good, all of which must be.

    Args:
        resolve: looks hosts up.
        good: whether an address is.
        own: the platform's doors.
        lookups: room for them.
    """

    def __init__(
        self,
        resolve: Resolve,
        good: Callable[[str], bool],
        own: Own,
        lookups: asyncio.Semaphore,
    ) -> None:
        self._resolve = resolve
        self._good = good
        self._own = own
        self._lookups = lookups
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            addresses = await self._addresses(host, port)
            failure: Exception | None = None
            for address in addresses:
                try:
                    return await self._sockets.connect_tcp(address, port)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                    failure = failure or exc
        raise failure or httpcore.ConnectError("there is no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                async with self._lookups:
                    found = await self._resolve(host, port)
            except OSError as exc:
                reason = exc.strerror or str(exc)
                raise errors.BadGateway(_ID, f"{host} cannot be found: {reason}") from None
        # All of them, before the first is connected to.
        for address in found:
            await self._check(host, address, port)
        return found

    async def _check(self, host: str, address: str, port: int) -> None:
        """Refuse an address that may not be reached."""
        where = host if host == address else f"{host} ({address})"
        if not self._good(address):
            kind = kind_of(address)
            if not is_nameable(address):
                detail = f"{where} is no public address ({kind}), and no function reaches it"
                raise errors.Forbidden(_ID, detail)
            at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise errors.Forbidden(
                _ID,
                f"{where} is no public address ({kind}); a function reaches it only if it is "
                f"deployed with `--allow-host {at}`",
            )
        if await self._own.holds(address, port):
            detail = f"{where} port {port} is the platform's own, which no function reaches"
            raise errors.Forbidden(_ID, detail)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Any = None
    ) -> httpcore.AsyncNetworkStream:
        raise OSError("no function reaches a socket of this host")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Once:
    """Looks a host up once for all who ask at the same time."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._asking: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        key = host, port
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._look(host, port))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _look(self, host: str, port: int) -> list[str]:
        return await self._resolve(host, port)


class _Names:
    """Looks hosts up by the system, in threads: a name that takes long is to hold up nobody."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, "names")

    async def __call__(self, host: str, port: int) -> list[str]:
        look = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


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
        raise errors.DeadlineExceeded(_ID, f"{what} {seconds:g} s") from None


def _note(trail: Trail, response: httpcore.Response) -> None:
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    if address:
        trail.address, trail.port = str(address[0]), int(address[1])


def trail_to(trail: Trail, url: _Url) -> _Url:
    """Note that a redirect is followed."""
    trail.origin, trail.address, trail.port = url.origin, "", 0
    trail.redirects += 1
    return url


def _checked_method(request: Outgoing) -> str:
    method = request.method
    if not _METHOD.fullmatch(method) or method.upper() in _FORBIDDEN_METHODS:
        raise errors.BadRequest(_ID, f"{method!r:.40} is no method that can be fetched with")
    if method in ("GET", "HEAD") and request.body:
        raise errors.BadRequest(_ID, f"a {method} has no body")
    if request.redirect not in ("follow", "manual", "error"):
        raise errors.BadRequest(_ID, "redirect is 'follow', 'manual' or 'error'")
    return method


def _checked_url(text: str) -> _Url:
    """A URL that can be fetched.

    Raises:
        errors.BadRequest: it is none.
    """
    if len(text) > MAX_URL:
        raise errors.BadRequest(_ID, f"a URL of {len(text)} characters is over {MAX_URL}")
    try:
        # Blanks and control characters were no part of a URL that a browser has read.
        parts = urlsplit("".join(quote(one) if ord(one) <= 32 else one for one in text.strip()))
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
        host = canonical(host.lower())
    except ValueError:
        raise errors.BadRequest(_ID, f"{text!r:.200} is no URL") from None
    if scheme not in ("http", "https"):
        raise errors.BadRequest(_ID, f"only http and https can be fetched, not {text!r:.200}")
    if not host or len(host) > 253 or re.search(r"[\x00-\x20/?#@\\%]", host):
        raise errors.BadRequest(_ID, f"{text!r:.200} names no host")
    if parts.username is not None or parts.password is not None:
        raise errors.BadRequest(_ID, "a URL with a user or password in it cannot be fetched")
    if port is None:
        port = 443 if scheme == "https" else 80
    path = quote(parts.path, safe=_URL_SAFE) or "/"
    target = f"{path}?{quote(parts.query, safe=_URL_SAFE)}" if parts.query else path
    origin = Origin(scheme, host, port)
    return _Url(f"{scheme}://{origin}{target}", origin, target)


def _checked_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that go along, names in small letters.

    Raises:
        errors.BadRequest: one cannot be sent, or they are too many.
    """
    kept: Headers = []
    for name, value in headers:
        if not NAME.fullmatch(name):
            raise errors.BadRequest(_ID, f"{name!r:.80} is no name of a header")
        if BAD_VALUE.search(value):
            raise errors.BadRequest(_ID, f"the value of header {name} cannot be sent")
        if (lowered := name.lower()) not in OURS:
            kept.append((lowered, value.strip()))
    return _sized(kept)


def _sized(headers: Headers) -> Headers:
    if (size := size_of(headers)) > MAX_HEADERS:
        raise errors.BadRequest(_ID, f"headers of {size} bytes are over {MAX_HEADERS}")
    return headers


def _defaults(given: set[str]) -> list[tuple[bytes, bytes]]:
    usual = {"accept": b"*/*", "user-agent": b"microcosmos"}
    told = [(name.encode(), value) for name, value in usual.items() if name not in given]
    return [*told, (b"accept-encoding", b"gzip, deflate")]


def _framing(method: str, body: bytes | AsyncIterator[bytes]) -> list[tuple[bytes, bytes]]:
    """How the other end knows where the body ends."""
    if not isinstance(body, bytes):
        return [(b"transfer-encoding", b"chunked")]
    if body or method in ("POST", "PUT", "PATCH"):
        return [(b"content-length", b"%d" % len(body))]
    return []


def _redirected(response: httpcore.Response, url: _Url) -> _Url | None:
    """Where a response sends its reader, if it does."""
    if response.status not in _REDIRECTS:
        return None
    for name, value in response.headers:
        if name.lower() == b"location":
            where = urljoin(url.text, value.decode("latin-1"))
            try:
                return _checked_url(where)
            except errors.BadRequest as error:
                said = f"{url.origin} redirects to where nobody can follow: {error.detail}"
                raise errors.BadGateway(_ID, said) from None
    return None


async def _drain(response: httpcore.Response) -> None:
    """Read a body that nobody wants, unless it is long, so that its connection can be kept."""
    size = 0
    with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(_SOON):
            async for part in response.aiter_stream():
                size += len(part)
                if size > _PIECE:
                    return


def _incoming(response: httpcore.Response, method: str, url: _Url) -> Incoming:
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in response.headers
    ]
    if (size := size_of(headers)) > MAX_HEADERS:
        detail = f"{url.origin} answers with headers of {size} bytes, over {MAX_HEADERS}"
        raise errors.BadGateway(_ID, detail)
    kept = [pair for pair in headers if pair[0] not in _HOP]
    coding = ", ".join(value for name, value in kept if name == "content-encoding").lower()
    parts = _parts(response)
    bodiless = method == "HEAD" or response.status in _BODILESS
    if coding.strip() in _CODINGS and not bodiless:
        parts = _inflated(parts, coding.strip(), url.origin)
        kept = [pair for pair in kept if pair[0] not in ("content-encoding", "content-length")]
    return Incoming(response.status, kept, parts, url.text)


async def _parts(response: httpcore.Response) -> AsyncIterator[bytes]:
    with _told():
        async for part in response.aiter_stream():
            yield part


async def _inflated(
    parts: AsyncIterator[bytes], coding: str, origin: Origin
) -> AsyncIterator[bytes]:
    """What was compressed, a piece at a time, however much it becomes."""
    inflate: Any = None
    async for part in parts:
        if inflate is None and part:
            inflate = zlib.decompressobj(_window(part, coding))
        data = part
        while data:
            try:
                piece = inflate.decompress(data, _PIECE)
            except zlib.error:
                detail = f"{origin} says that its answer is {coding}, and it is not"
                raise errors.BadGateway(_ID, detail) from None
            data = inflate.unconsumed_tail
            if piece:
                yield piece
            if inflate.eof and inflate.unused_data and coding != "deflate":
                # gzip may have several members, one after another.
                data = inflate.unused_data
                inflate = zlib.decompressobj(_window(data, coding))
    if inflate is not None and not inflate.eof:
        raise errors.BadGateway(_ID, f"the answer of {origin} is cut")


def _window(data: bytes, coding: str) -> int:
    if coding != "deflate":
        return 16 + zlib.MAX_WBITS
    # It should have a header of its own, and some send it without.
    return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS


@contextlib.contextmanager
def _told() -> Any:
    """Errors of httpcore, told as ours."""
    try:
        yield
    except httpcore.ConnectTimeout:
        raise errors.DeadlineExceeded(_ID, f"nobody took the connection in {CONNECT:g} s") from None
    except httpcore.TimeoutException:
        raise errors.DeadlineExceeded(_ID, f"the server said nothing for {READ:g} s") from None
    except httpcore.ConnectError as exc:
        raise errors.BadGateway(_ID, f"cannot connect: {_reason(exc)}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
        raise errors.BadGateway(_ID, f"the connection failed: {_reason(exc)}") from None
    except TimeoutError as exc:
        if isinstance(exc, errors.Error):
            raise
        raise errors.DeadlineExceeded(_ID, f"nobody took the connection in {CONNECT:g} s") from None


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
