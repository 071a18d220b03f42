"""The config of a service: in memory, kept current by a stream, so that reading costs nothing."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, overload
from weakref import WeakSet

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from . import paths, tree, wire
from .client import ConfigClient
from .interface import MASK, Tree
from .paths import Path
from .values import Value

PATIENCE = 5.0
"""Seconds that a starting service waits for its config; then it goes on, and `get` fails."""

SEEN = 10.0
"""Seconds after which a write that this process is not told of is given up waiting for."""

PAUSE = 0.1
"""Seconds until config that could not be followed is asked for again; they double."""

LONGEST_PAUSE = 2.0
"""The longest such pause, in seconds."""

Callback = Callable[[Value], Awaitable[None] | None]

log = logging.getLogger("microcosmos.config")

_followed = msgspec.json.Decoder(wire.Followed)


class _Told(msgspec.Struct, frozen=True):
    """A leaf as the core has told it.

    Attributes:
        data: its JSON, by which it is compared: 1 and true are two values.
        value: the same, decoded.
        secret: whether it is kept encrypted.
        code: of the error by which a secret is not told; 0 is none.
        reason: the detail of that error.
    """

    data: bytes
    value: Any
    secret: bool = False
    code: int = 0
    reason: str = ""


class ServiceConfig:
    """Settings and secrets of the namespace, as a service sees them.

        limit = service.config.get("orders.limit").int(10)
        await service.config.set("orders.limit", 20)

    `get` reads from memory. Entered, everything is there; a change made anywhere arrives within
    milliseconds, and one's own before `set` and `delete` return. While the platform is away the
    last known values stand.

    Args:
        client: carries the calls.
        name: of the service.
        namespace: whose config; empty is the one that calls are made in.
    """

    def __init__(self, client: Client, name: str, *, namespace: str = "") -> None:
        # Its own calls, whomever it is serving: settings are the service's, not its callers'.
        self._rpc = client.own()
        self._client = ConfigClient(self._rpc, namespace)
        self._name = name
        self._body = codec.encode({"namespace": namespace})
        self._tree: Tree | None = None
        self._revision = -1
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._failure: errors.Error | None = None
        self._watching: WeakSet[Watching] = WeakSet()
        self._callbacks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ServiceConfig:
        # A context of its own: the stream outlives a call that it may be opened in.
        self._task = asyncio.create_task(
            self._follow(), name="config", context=contextvars.Context()
        )
        try:
            await asyncio.wait_for(self._settled.wait(), PATIENCE)
        except TimeoutError:
            log.warning("%s starts without its config: %s", self._name, self._why())
        except BaseException:
            self._task.cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks = [task for task in (self._task, *self._callbacks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watching in list(self._watching):
            watching.close()

    def get(self, path: str = "", *, secret: bool = False) -> Value:
        """What stands at a path, or a value of nothing: a missing path is no error.

        Args:
            path: which leaf or tree; an empty one is the whole document.
            secret: give secrets in the clear, not masked.

        Raises:
            errors.BadRequest: a path that cannot be one.
            errors.Forbidden: there is a secret that this service may not read.
            errors.Unavailable: the platform has not told its config yet.
        """
        if self._tree is None:
            raise errors.Unavailable("config", f"config could not be read: {self._why()}")
        keys = paths.parse(path)
        node = tree.find(self._tree, keys)
        if node is None:
            return Value(path)
        if isinstance(node, _Told):
            return Value(path, _opened(node, keys, secret), secret=secret and node.secret)
        return Value(path, _json(node, keys, secret), secret=secret)

    async def set(self, path: str, value: Any, *, secret: bool = False) -> None:
        """Put a value at a path, as `ConfigClient.set` does; then `get` gives it.

        Raises:
            errors.BadRequest: a path or a value that cannot be.
            errors.Forbidden: a service changes what is under its name only.
        """
        await self._see(await self._client.set(path, value, secret=secret))

    async def delete(self, path: str) -> None:
        """Remove the leaf or the tree at a path; then `get` finds nothing.

        Raises:
            errors.NotFound: nothing is there.
            errors.Forbidden: a service changes what is under its name only.
        """
        await self._see(await self._client.delete(path))

    @overload
    def watch(self, path: str = "", *, secret: bool = False) -> Watching: ...
    @overload
    def watch(
        self, path: str, callback: Callback, *, secret: bool = False
    ) -> Callable[[], None]: ...
    def watch(
        self, path: str = "", callback: Callback | None = None, *, secret: bool = False
    ) -> Watching | Callable[[], None]:
        """Be told of changes at, below and above a path, from now on.

            async for limit in service.config.watch("orders.limit"):
                pool.resize(limit.int(10))

        Who is slow is told of the last state only.

        Args:
            path: of what.
            callback: is given the value at the path; plain or async.
            secret: as of `get`.

        Returns:
            What to iterate over for the values, or, with a callback, a function that ends it.
        """
        watching = Watching(lambda: self.get(path, secret=secret), paths.parse(path))
        self._watching.add(watching)
        if callback is None:
            return watching
        task = asyncio.create_task(_call(watching, callback), context=contextvars.Context())
        self._callbacks.add(task)
        task.add_done_callback(self._callbacks.discard)
        return watching.close

    async def _see(self, revision: int) -> None:
        """Wait until a revision has come here."""
        try:
            async with asyncio.timeout(SEEN):
                while self._revision < revision:
                    await self._moved.wait()
        except TimeoutError:
            raise errors.DeadlineExceeded(
                "config", "it is written, but this process has not been told of it yet"
            ) from None

    async def _follow(self) -> None:
        pause = PAUSE
        while True:
            try:
                async with self._rpc.stream(wire.NAME, "Config.Follow", self._body) as stream:
                    async for message in stream:
                        self._apply(_followed.decode(message))
                        pause = PAUSE
            except errors.Error as error:
                self._failure = error
                if isinstance(error, errors.Unauthorized | errors.Forbidden):
                    self._settled.set()
                log.debug("config cannot be followed: %s", error)
            except msgspec.MsgspecError as error:
                detail = f"the platform tells config in another form: {error}"
                self._failure = errors.InternalServerError("config", detail)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _apply(self, news: wire.Followed) -> None:
        old, new = self._tree, {} if news.snapshot else self._tree or {}
        for keys, node in news.changes:
            new = tree.replaced(new, tuple(keys), None if node is None else _told(node))
        self._tree, self._revision = new, news.revision
        self._settled.set()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        if old is not None:
            changed = [change.path for change in tree.diff(old, new)]
            if not news.snapshot:
                # A secret that was not told before and is not now may still be another.
                changed += [tuple(keys) for keys, _ in news.changes]
            for watching in list(self._watching):
                watching.tell(changed)

    def _why(self) -> str:
        if self._failure is None:
            return "the platform does not answer"
        return self._failure.detail or self._failure.status


class Watching:
    """Values at a path, one after each change; see `ServiceConfig.watch`."""

    def __init__(self, read: Callable[[], Value], path: Path) -> None:
        self._read = read
        self._path = path
        self._wake = asyncio.Event()
        self._closed = False

    def tell(self, changed: list[Path]) -> None:
        """Something has changed at these paths."""
        if any(paths.overlap(path, self._path) for path in changed):
            self._wake.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Value]:
        return self

    async def __anext__(self) -> Value:
        await self._wake.wait()
        if self._closed:
            raise StopAsyncIteration
        self._wake.clear()
        return self._read()


async def _call(watching: Watching, callback: Callback) -> None:
    while True:
        try:
            value = await anext(watching)
            done = callback(value)
            if inspect.isawaitable(done):
                await done
        except StopAsyncIteration:
            return
        except Exception:
            log.exception("a callback of config failed")


def _told(node: Any) -> Any:
    """A node of `wire.Followed`, with leaves of ours."""
    if isinstance(node, dict):
        return {key: _told(inner) for key, inner in node.items()}
    value, *about = node
    data = codec.encode(value)
    if not about:
        return _Told(data, value)
    if len(about) == 1:
        return _Told(data, value, secret=True)
    return _Told(data, value, secret=True, code=about[0], reason=about[1])


def _json(node: Any, path: Path, secret: bool) -> Any:
    if isinstance(node, _Told):
        return _opened(node, path, secret)
    return {key: _json(inner, (*path, key), secret) for key, inner in node.items()}


def _opened(leaf: _Told, path: Path, secret: bool) -> Any:
    if not leaf.secret:
        return leaf.value
    if not secret:
        return MASK
    if leaf.code:
        raise errors.of_code(leaf.code, "config", leaf.reason)
    return leaf.value
