"""The blobs of the store's tables over rpc, with the endpoints of Micro v3."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from microcosmos.base import errors
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Endpoint

from . import blob_wire as wire
from .blobs import Blobs, Upload
from .blobs.blob import BINARY
from .rights import PART, Rights
from .wire import NAME, UNLISTED, Grant, Place

MAX_BLOBS = 2000
"""The most blobs in one page of an answer."""

MAX_LISTED = 50_000
"""The most keys that `BlobStore.List` gives at once."""

MAX_TABLES = 64
"""Tables whose uploads are hashed as they come; those of others are read again when finished."""


class BlobService:
    """Serves the blobs of tables; who may use a table may use its blobs.

    Args:
        rights: opens the tables.
    """

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._tables: OrderedDict[tuple[str, str], Blobs] = OrderedDict()

    def endpoints(self) -> list[Endpoint]:
        """The endpoints ``BlobStore.*``."""
        return [
            *(_endpoint(one) for one in (self.read, self.write, self.info, self.list, self.delete)),
            *(
                _endpoint(one, **UNLISTED)
                for one in (
                    *(self.page, self.begin, self.append),
                    *(self.upload, self.finish, self.discard),
                )
            ),
        ]

    async def read(
        self, request: wire.BlobReadRequest
    ) -> AsyncGenerator[wire.BlobReadResponse, None]:
        """The content of a blob, or a part of it, in messages of at most 1 MiB."""
        blobs = await self._blobs(request.options, "read")
        chunks = blobs.read(request.key, offset=request.offset, length=request.length)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield wire.BlobReadResponse(chunk)

    async def write(self, messages: AsyncIterator[wire.BlobWriteRequest]) -> wire.BlobInfo:
        """Write a blob from a stream; it is there, whole, when the stream has ended."""
        first = await anext(messages, wire.BlobWriteRequest())
        if not first.key:
            raise _bad("the first message of a write has the key")
        blobs = await self._blobs(first.options, "write")
        blob = await blobs.write(
            first.key,
            _contents(first, messages),
            content_type=_content_type(first.options),
            metadata=first.metadata,
            version=first.version,
            sha256=first.sha256 or None,
        )
        return wire.shown(blob)

    async def info(self, request: wire.BlobInfoRequest) -> wire.BlobInfo:
        """The size, hash, content type and metadata of a blob."""
        blobs = await self._blobs(request.options, "read")
        return wire.shown(await blobs.info(request.key))

    async def delete(self, request: wire.BlobDeleteRequest) -> None:
        """Remove a blob; a key that has none is no error."""
        blobs = await self._blobs(request.options, "write")
        await blobs.delete(request.key, version=request.version)

    async def page(self, request: wire.BlobListRequest) -> wire.BlobPage:
        """A part of the blobs whose keys begin so, with their sizes and hashes."""
        options = request.options
        limit = min(options.limit or MAX_BLOBS, MAX_BLOBS)
        blobs = await self._blobs(options, "read")
        found = await blobs.list(options.prefix, limit=limit, after=options.after)
        return wire.BlobPage([wire.shown(blob) for blob in found], len(found) == limit)

    async def begin(self, request: wire.BlobBeginRequest) -> Upload:
        """Begin an upload in several calls, which may be tried again."""
        options = request.options
        blobs = await self._blobs(options, "write")
        return await blobs.begin(
            request.key, content_type=_content_type(options), metadata=request.metadata
        )

    async def append(self, request: wire.BlobAppendRequest) -> Upload:
        """Add the next bytes to an upload, at most 4 MiB."""
        blobs = await self._blobs(request.options, "write")
        return await blobs.append(request.id, request.offset, request.data)

    async def upload(self, request: wire.BlobUploadRequest) -> Upload:
        """How far an upload is."""
        blobs = await self._blobs(request.options, "write")
        return await blobs.upload(request.id)

    async def finish(self, request: wire.BlobFinishRequest) -> wire.BlobInfo:
        """Make an upload the blob."""
        blobs = await self._blobs(request.options, "write")
        sha256 = request.sha256 or None
        return wire.shown(await blobs.finish(request.id, sha256=sha256, version=request.version))

    async def discard(self, request: wire.BlobUploadRequest) -> None:
        """Give an upload up; one that is not there is no error."""
        blobs = await self._blobs(request.options, "write")
        await blobs.discard(request.id)

    async def _blobs(self, where: wire.Where, access: Grant) -> Blobs:
        if PART in where.table:
            raise _bad(f"{where.table!r:.80} is a part of a table; name the table alone")
        if isinstance(where, wire.BlobOptions) and where.public:
            detail = "no blob is public; let an endpoint of a service give it to everybody"
            raise errors.Unimplemented(NAME, detail)
        place = Place(database=where.namespace, table=where.table)
        table = await self._rights.table(place, access)
        blobs = self._tables.pop(table.scope, None) or Blobs(table)
        self._tables[table.scope] = blobs
        if len(self._tables) > MAX_TABLES:
            self._tables.popitem(last=False)
        return blobs

    # Last, because after it the name means this method to a type checker.
    async def list(self, request: wire.BlobListRequest) -> wire.BlobListResponse:
        """The keys of the blobs that begin so."""
        options = request.options
        blobs = await self._blobs(options, "read")
        limit = options.limit or MAX_LISTED + 1
        found = await blobs.list(options.prefix, limit=limit, after=options.after)
        if len(found) > MAX_LISTED:
            detail = f"there are more than {MAX_LISTED} blobs; list them in parts, with limit"
            raise errors.TooLarge(NAME, detail)
        return wire.BlobListResponse([blob.key for blob in found])


def _endpoint(function: Callable[..., Any], **metadata: str) -> Endpoint:
    name = f"BlobStore.{function.__name__.title()}"
    return endpoint(function, NAME, name=name, lenient=True, access="service", metadata=metadata)


async def _contents(
    first: wire.BlobWriteRequest, messages: AsyncIterator[wire.BlobWriteRequest]
) -> AsyncGenerator[bytes, None]:
    """What the messages of a write carry, if all are about one blob."""
    yield first.blob
    async for message in messages:
        if message.key not in ("", first.key):
            detail = f"a write is of one blob: {first.key!r:.80}, not {message.key!r:.80} too"
            raise _bad(detail)
        yield message.blob


def _content_type(options: wire.BlobOptions) -> str:
    return options.content_type or BINARY


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest(NAME, detail)
