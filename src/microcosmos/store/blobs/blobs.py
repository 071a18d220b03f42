"""Blobs as their users see them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
)
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import IO, Any, TypeVar

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.tasks import background
from microcosmos.store.backend import shown
from microcosmos.store.interface import Delete, Op, Store, Write

from . import shelf
from .blob import BINARY, CHUNK, MAX_APPEND, MAX_BLOB, Blob, Upload, span
from .shelf import KEEP, Manifest, Shelf
from .sweeper import Sweeper
from .uploads import Uploads

T = TypeVar("T")

Source = bytes | bytearray | memoryview | AsyncIterable[bytes] | IO[bytes]
"""Where content comes from: bytes, an async iterator of bytes, or a file opened for reading."""


class Blobs:
    """The blobs of a table.

    Nothing is ever held whole in memory. A blob changes at once from its old content to its new
    one: who reads meanwhile gets the one that was there when they began. While it is entered, old
    contents and abandoned uploads are removed.

    Args:
        table: that they are a part of; one table's are not seen in another.
        clock: what ages go by.
        max_size: the most bytes of one blob.
    """

    def __init__(self, table: Store, *, clock: Clock = SYSTEM, max_size: int = MAX_BLOB) -> None:
        self._shelf = Shelf(table)
        self._clock = clock
        self._uploads = Uploads(self._shelf, clock, max_size)
        self._sweeper = Sweeper(self._shelf, self._uploads, clock)
        self._title = f"blobs of table {table.scope[1]}"

    async def __aenter__(self) -> Blobs:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(background(self._sweeper.run(), self._title))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def write(
        self,
        key: str,
        source: Source,
        *,
        content_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
        version: int | None = None,
        sha256: str | None = None,
    ) -> Blob:
        """Write a blob, in place of what stood there; it is durable on return.

        Args:
            key: its name, any text.
            source: the content. If it fails, nothing is changed.
            content_type: what it is.
            metadata: notes to keep with it.
            version: compare-and-set: write only if the blob is still at this version, 0 for only
                if there is none.
            sha256: of the whole content, in hexadecimal: what comes has to be that.

        Raises:
            errors.BadRequest: the key, content type, metadata or source is bad, or the hash is
                another.
            errors.TooLarge: it is over the limit.
            errors.Conflict: the blob is at another version.
        """
        pieces = _pieces(source)
        begin = self.begin(key, content_type=content_type, metadata=metadata)
        upload = await _whole(begin, late=lambda upload: self.discard(upload.id))
        try:
            async for piece in pieces:
                upload = await _whole(self._uploads.append(upload.id, upload.size, piece))
            return await _whole(self._uploads.finish(upload.id, sha256, version, again=False))
        except BaseException:
            # Should this fail too, it is removed as an abandoned one.
            await self._uploads.discard(upload.id)
            raise

    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The content of a blob, or a part of it, in chunks of at most 1 MiB.

        Each chunk is verified before it is given.

        Args:
            key: the blob's name.
            offset: the first byte wanted.
            length: how many, None for all; what is behind the end is not there.

        Raises:
            errors.NotFound: there is no such blob.
            errors.BadRequest: it has fewer bytes than ``offset``.
            errors.Conflict: it was replaced, and nothing was read for `shelf.KEEP` seconds.
            errors.Error: a chunk is damaged; the detail names it.
        """
        manifest, blob = await self._found(key)
        start, end = span(blob, offset, length)
        hashes = await self._shelf.hashes_of(key, manifest)
        looked = self._clock.monotonic()
        for number in range(start // CHUNK, shelf.chunk_count(end) if end > start else 0):
            if self._clock.monotonic() - looked > KEEP / 4:
                await self._keep(manifest.content)
                looked = self._clock.monotonic()
            try:
                data = await self._shelf.chunk(key, manifest.content, number, hashes[number])
            except errors.Error:
                await self._check_current(key, manifest)
                raise
            at = number * CHUNK
            yield data[max(start - at, 0) : end - at]

    async def info(self, key: str) -> Blob:
        """What is known of a blob.

        Raises:
            errors.NotFound: there is no such blob.
        """
        return (await self._found(key))[1]

    async def delete(self, key: str, *, version: int | None = None) -> None:
        """Remove a blob; a key that has none is no error.

        Raises:
            errors.Conflict: a version was named, and the blob is at another.
        """
        here = self._shelf
        while True:
            old = await here.manifest(key)
            current = old[1] if old else 0
            if version is not None and version != current:
                detail = f"the blob {shown(key)} is at version {current}, not {version}"
                raise errors.Conflict("store.blobs", detail)
            if old is None:
                return
            due = self._clock.time() + KEEP
            ops: list[Op] = [Delete(key, version=current), here.thrown_away(old[0].content, due)]
            try:
                await here.manifests.batch(ops)
            except errors.Conflict:
                continue
            return

    async def begin(
        self,
        key: str,
        *,
        content_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
    ) -> Upload:
        """Begin an upload that may take several tries, from any process.

        Raises:
            errors.BadRequest: the key, content type or metadata is bad.
            errors.TooManyRequests: too many are open.
        """
        return await self._uploads.begin(key, content_type, metadata)

    async def append(self, id: str, offset: int, data: bytes) -> Upload:
        """Add the next bytes to an upload, at most 4 MiB; the last ones may come twice.

        Raises:
            errors.NotFound: there is no such upload, or it was abandoned for too long.
            errors.Conflict: it does not go on there; the detail says where.
            errors.TooLarge: these are too many, or the blob is over its limit, and given up.
        """
        return await self._uploads.append(id, offset, data)

    async def upload(self, id: str) -> Upload:
        """How far an upload is: its sender goes on at its size.

        Raises:
            errors.NotFound: there is no such upload.
        """
        return shelf.as_upload(id, await self._shelf.upload(id))

    async def finish(
        self, id: str, *, sha256: str | None = None, version: int | None = None
    ) -> Blob:
        """Make an upload the blob; it may be asked again should the answer be lost.

        Args:
            id: of the upload.
            sha256: of the whole content, in hexadecimal: what came has to be that.
            version: as in `write`.

        Raises:
            errors.NotFound: there is no such upload.
            errors.BadRequest: something else came; it is given up.
            errors.Conflict: the blob is at another version.
        """
        return await self._uploads.finish(id, sha256, version)

    async def discard(self, id: str) -> None:
        """Give an upload up; one that is not there is no error."""
        await self._uploads.discard(id)

    async def sweep(self) -> int:
        """Remove now what may be removed, and return how many contents that were."""
        return await self._sweeper.sweep()

    async def _found(self, key: str) -> tuple[Manifest, Blob]:
        found = await self._shelf.manifest(key)
        if found is None:
            raise errors.NotFound("store.blobs", f"there is no blob {shown(key)}")
        return found[0], found[0].blob(key, found[1])

    async def _keep(self, content: str) -> None:
        """Let a content stay for its reader, if it is no blob's any more."""
        trash = self._shelf.trash
        if (record := await shelf.find(trash, content)) is not None:
            later = self._shelf.thrown_away(content, self._clock.time() + KEEP)
            # If somebody was faster, it is another reader, or too late.
            with suppress(errors.Conflict):
                await trash.batch([Write(content, later.value, version=record.version)])

    async def _check_current(self, key: str, manifest: Manifest) -> None:
        now = await self._shelf.manifest(key)
        if now is None or now[0].content != manifest.content:
            detail = f"the blob {shown(key)} was replaced or deleted; read it anew"
            raise errors.Conflict("store.blobs", detail) from None

    # Last, because after it the name means this method to a type checker.
    async def list(self, prefix: str = "", *, limit: int = 0, after: str = "") -> list[Blob]:
        """The blobs whose keys begin so, in order.

        Args:
            prefix: how they begin.
            limit: at most so many, 0 for all.
            after: a cursor: only keys beyond this one.
        """
        records = await self._shelf.manifests.read(prefix=prefix, limit=limit, after=after)
        return [
            shelf.decoded(record, Manifest).blob(record.key, record.version) for record in records
        ]


async def _whole(
    step: Coroutine[Any, Any, T], late: Callable[[T], Awaitable[None]] | None = None
) -> T:
    """Do a step to its end, though this is cancelled: what comes after builds on what it did.

    Args:
        step: what is done.
        late: what to do with its result when nobody waits for it any more.
    """
    doing = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        if late is not None and not doing.cancelled() and doing.exception() is None:
            await late(doing.result())
        raise


def _pieces(source: Source) -> AsyncIterator[bytes]:
    """The content in pieces of whole chunks, whatever those it comes in."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_bytes(memoryview(source).cast("B"))
    if isinstance(source, AsyncIterable):
        return _gathered(source)
    if callable(getattr(source, "read", None)):
        return _gathered(_of_file(source))
    detail = f"a blob comes from bytes, an async iterator or a file, not {type(source).__name__}"
    raise errors.BadRequest("store.blobs", detail)


async def _of_bytes(data: memoryview) -> AsyncIterator[bytes]:
    for at in range(0, len(data), MAX_APPEND):
        yield bytes(data[at : at + MAX_APPEND])


async def _of_file(file: Any) -> AsyncIterator[bytes]:
    while True:
        piece = await asyncio.to_thread(file.read, MAX_APPEND)
        piece = await piece if inspect.isawaitable(piece) else piece
        if not piece:
            return
        yield piece


async def _gathered(source: AsyncIterable[Any]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in source:
        if not isinstance(piece, bytes | bytearray | memoryview):
            detail = f"the content of a blob is bytes, not {type(piece).__name__}"
            raise errors.BadRequest("store.blobs", detail)
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), MAX_APPEND):
            waiting += view[at : at + MAX_APPEND]
            while len(waiting) >= MAX_APPEND:
                yield bytes(waiting[:MAX_APPEND])
                del waiting[:MAX_APPEND]
    if waiting:
        yield bytes(waiting)
