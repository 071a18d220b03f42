"""Answers that are given again, where an endpoint says that they may be.

Only what is part of an answer's key reaches the endpoint: the path, the query string and the
headers that it says it varies on. So nobody's cookie, address or token can be in an answer that
others get.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from microcosmos.base import context, errors, names
from microcosmos.gateway import answer
from microcosmos.gateway.encodings import accepts, has_copy
from microcosmos.gateway.request import Changed, Pairs
from microcosmos.registry import Endpoint, Table

from . import settings

log = logging.getLogger("microcosmos.gateway")

CACHED_ANSWER = 1024 * 1024
"""Bytes of the largest answer that is cached."""

LONGEST_KEY = 4096
"""Characters of a path with its query string; answers to longer ones are not cached."""

CACHE = "cache"
"""Metadata of an endpoint: how long its answers may be given again, ``10s``."""

VARY = "vary"
"""Metadata of an endpoint: further headers that its answers depend on."""

# About what an entry weighs beside its body.
_OVERHEAD = 1024
_REMEMBERED = 20_000
_ALWAYS = ("accept", context.NAMESPACE.lower())
_READING = frozenset(("GET", "HEAD"))
# Who shows one of these, or sets terms of his own, has an answer of his own.
_PRIVATE = frozenset(("authorization", "range", "if-match", "if-unmodified-since"))


class Policy(NamedTuple):
    """How an endpoint's answers may be cached.

    Attributes:
        service: whose they are.
        endpoint: which.
        seconds: how long.
        vary: the headers that are part of the key, in lower case.
    """

    service: str
    endpoint: str
    seconds: int
    vary: tuple[str, ...]


class _Policies(dict[str, Policy | None]):
    """Policies by path, remembered until the registry changes."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, path: str) -> Policy | None:
        try:
            service, name = names.from_path(path)
        except errors.Error:
            return None
        known = self._table.endpoint(service, name)
        if known is None:
            # Not remembered, so that nobody can fill the memory with paths that lead nowhere.
            return None
        if len(self) >= _REMEMBERED:
            self.clear()
        policy = self[path] = _policy(service, known)
        return policy


def _policy(service: str, endpoint: Endpoint) -> Policy | None:
    about = endpoint.metadata
    if CACHE not in about or "stream" in about:
        return None
    try:
        seconds = int(settings.duration(about[CACHE]))
    except ValueError as exc:
        log.warning("%s %s is not cached: %s", service, endpoint.name, exc)
        return None
    more = (name.strip().lower() for name in about.get(VARY, "").split(","))
    vary = tuple(sorted({*_ALWAYS, *filter(None, more)}))
    # What must not be shared is not made so by being part of a key.
    if seconds < 1 or "authorization" in vary or "*" in vary:
        return None
    return Policy(service, endpoint.name, seconds, vary)


class _Answer:
    """What an application answered, in place of a connection."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Pairs = []
        self.body = b""
        self.packed: bytes | None = None

    def client_disconnect(self) -> asyncio.Future[None]:
        """Nobody leaves: others may wait for the same."""
        return asyncio.get_running_loop().create_future()

    def response_empty(self, status: int, headers: Pairs) -> None:
        self.response_bytes(status, headers, b"")

    def response_str(self, status: int, headers: Pairs, body: str) -> None:
        self.response_bytes(status, headers, body.encode())

    def response_bytes(self, status: int, headers: Pairs, body: bytes) -> None:
        self.status, self.headers, self.body = status, list(headers), body


class _Entry:
    """An answer that is kept."""

    def __init__(self, key: _Key, policy: Policy, kept: _Answer, now: float) -> None:
        self.policy = policy
        self.made = now
        self.until = now + policy.seconds
        self.answer = kept
        self.etag = f'W/"{hashlib.blake2b(kept.body, digest_size=12).hexdigest()}"'
        size = len(key.path) + len(key.query) + sum(len(value) for value in key.values)
        self.bytes = 2 * size + 2 * len(kept.body) + _OVERHEAD


class _Key(NamedTuple):
    path: str
    query: str
    values: tuple[str, ...]


class Cache:
    """Keeps answers, the last used the longest, up to a number of bytes.

    Args:
        app: the application whose answers they are.
        table: who is alive, and what may be cached.
        clock: gives seconds that never go back.
        changed: called when there begin or cease to be endpoints that allow it.
        public: whether everybody may call an endpoint of a service now; what somebody got once
            is for nobody who could not have got it.
    """

    def __init__(
        self,
        app: Any,
        table: Table,
        clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
        public: Callable[[str, str], bool] = lambda service, endpoint: True,
    ) -> None:
        self._app = app
        self._public = public
        self._table = table
        self._clock = clock
        self._tell = changed
        self._limit = settings.CACHE_BYTES
        self._policies = _Policies(table)
        self._allowing: set[str] = set()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._coming: dict[_Key, asyncio.Task[_Answer]] = {}
        self._generation = 0
        for name in {service.name for service in table.services()}:
            self._note(name)
        table.on_change(self._changed)

    def __bool__(self) -> bool:
        return self._limit > 0 and bool(self._allowing)

    @property
    def bytes(self) -> int:
        """What the entries weigh, about."""
        return self._bytes

    def allow(self, bytes: int) -> None:
        """Keep so many bytes from now on."""
        self._limit = bytes
        self._make_room()

    def close(self) -> None:
        """Give up what is being fetched."""
        for task in self._coming.values():
            task.cancel()

    async def answer(self, scope: Any, proto: Any, request: dict[str, str]) -> bool:
        """Answer a request whose answer may be shared; False leaves it to the application."""
        policy = self._policies[scope.path]
        if policy is None or not _is_public(scope, request):
            return False
        if not self._public(policy.service, policy.endpoint):
            return False
        key = _Key(
            scope.path,
            scope.query_string,
            tuple(request.get(name, "") for name in policy.vary),
        )
        if len(key.path) + len(key.query) > LONGEST_KEY:
            return False
        wishes = request.get("cache-control", request.get("pragma", "")).lower()
        if "no-store" in wishes:
            return False
        fresh = "no-cache" in wishes or "max-age=0" in wishes
        entry = None if fresh else self._find(key)
        if entry is None and "only-if-cached" in wishes:
            raise errors.DeadlineExceeded("gateway.cache", "there is no answer in the cache")
        if entry is not None:
            _send(proto, request, entry.answer, entry, self._clock())
        elif "micro-timeout" in request:
            return False
        else:
            await self._fetched(scope, proto, request, key, policy, fresh=fresh)
        return True

    async def _fetched(
        self,
        scope: Any,
        proto: Any,
        request: dict[str, str],
        key: _Key,
        policy: Policy,
        *,
        fresh: bool,
    ) -> None:
        """Answer with what the application says; who asks meanwhile gets the same."""
        coming = None if fresh else self._coming.get(key)
        if coming is None:
            coming = asyncio.create_task(self._fetch(scope, key, policy), name="gateway cache")
            self._coming[key] = coming
            coming.add_done_callback(lambda done: self._came(key, done))
        got = await asyncio.shield(coming)
        entry = self._entries.get(key)
        if entry is not None and entry.answer is not got:
            entry = None
        _send(proto, request, got, entry, self._clock())

    async def _fetch(self, scope: Any, key: _Key, policy: Policy) -> _Answer:
        pairs = [
            (name, value) for name, value in zip(policy.vary, key.values, strict=True) if value
        ]
        generation, got = self._generation, _Answer()
        await self._app(Changed(scope, pairs, method="GET"), got)
        if not got.status:
            raise errors.InternalServerError("gateway.cache", "there was no answer to be cached")
        if generation == self._generation and _may_keep(got):
            self._keep(key, _Entry(key, policy, got, self._clock()))
        return got

    def _came(self, key: _Key, done: asyncio.Task[_Answer]) -> None:
        if self._coming.get(key) is done:
            del self._coming[key]
        if not done.cancelled():
            done.exception()  # who waited has been told

    def _find(self, key: _Key) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _keep(self, key: _Key, entry: _Entry) -> None:
        self._drop(key)
        self._entries[key] = entry
        self._bytes += entry.bytes
        self._make_room()

    def _drop(self, key: _Key) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._bytes -= entry.bytes

    def _make_room(self) -> None:
        while self._bytes > self._limit:
            self._drop(next(iter(self._entries)))

    def _changed(self, name: str) -> None:
        """A service is another than before: what it answered may be, too."""
        self._policies.clear()
        for key in [key for key, entry in self._entries.items() if entry.policy.service == name]:
            self._drop(key)
        if name in self._allowing:
            self._generation += 1
            self._coming.clear()
        self._note(name)
        self._tell()

    def _note(self, name: str) -> None:
        versions = self._table.versions(name)
        if any(CACHE in one.metadata for version in versions for one in version.endpoints):
            self._allowing.add(name)
        else:
            self._allowing.discard(name)


def _is_public(scope: Any, request: dict[str, str]) -> bool:
    """Whether a request may be answered with what others got."""
    if scope.method not in _READING or not _PRIVATE.isdisjoint(request):
        return False
    # The cookie of Micro v3 that stands for a token.
    return "micro-token" not in request.get("cookie", "")


def _may_keep(got: _Answer) -> bool:
    if got.status != 200 or len(got.body) > CACHED_ANSWER:
        return False
    told = {name.lower(): value.lower() for name, value in got.headers}
    wishes = told.get("cache-control", "")
    if "set-cookie" in told or "content-encoding" in told:
        return False
    return not any(word in wishes for word in ("no-store", "private", "no-cache"))


def _send(
    proto: Any, request: dict[str, str], got: _Answer, entry: _Entry | None, now: float
) -> None:
    headers = [*got.headers]
    if answer.JSON in headers:
        # The rest is what answers to other origins have.
        headers += [pair for pair in answer.headers_of(request) if pair != answer.JSON]
    if entry is not None:
        headers += _about(entry, now)
        if has_copy(request.get("if-none-match", ""), entry.etag):
            proto.response_empty(304, [pair for pair in headers if pair[0] != "content-type"])
            return
    body = got.body
    if answer.JSON in headers and len(body) >= answer.COMPRESS_FROM:
        headers.append(("vary", "Accept-Encoding"))
        if accepts(request.get("accept-encoding", ""), "gzip"):
            headers.append(("content-encoding", "gzip"))
            if got.packed is None:
                packer = zlib.compressobj(level=5, wbits=31)
                got.packed = packer.compress(body) + packer.flush()
            body = got.packed
    proto.response_bytes(got.status, headers, body)


def _about(entry: _Entry, now: float) -> Pairs:
    """What a client and the caches between may know of an answer that is kept."""
    vary = ", ".join(context.title(name) for name in entry.policy.vary)
    return [
        ("age", str(max(0, int(now - entry.made)))),
        ("cache-control", f"public, max-age={entry.policy.seconds}"),
        ("etag", entry.etag),
        ("vary", vary),
    ]
