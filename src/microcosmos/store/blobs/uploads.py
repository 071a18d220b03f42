"""Content on its way in: begun, appended to, finished."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import Clock
from microcosmos.store.backend import shown
from microcosmos.store.interface import Delete, Op, Write

from . import shelf
from .blob import CHUNK, MAX_APPEND, MAX_OPEN, Blob, Upload, check
from .shelf import Manifest, Open, Shelf

FINISHED = 600.0
"""Seconds for which a finished upload may be finished again, should the answer have been lost."""


class Uploads:
    """The uploads to a table.

    Args:
        on: its records.
        clock: what `Open.touched` goes by.
        max_size: the most bytes of one blob.
    """

    def __init__(self, on: Shelf, clock: Clock, max_size: int) -> None:
        self._shelf = on
        self._clock = clock
        self._max_size = max_size
        self._running = _Running()

    async def begin(
        self, key: str, content_type: str, metadata: Mapping[str, str] | None
    ) -> Upload:
        """A new, empty upload; see `Blobs.begin`."""
        check(key, content_type, metadata or {})
        if await self._shelf.uploads.count(prefix=shelf.opened("")) >= MAX_OPEN:
            detail = f"{MAX_OPEN} uploads are open; finish one, or try again later"
            raise errors.TooManyRequests("store.blobs", detail)
        state = Open(
            key=key,
            content_type=content_type,
            metadata=dict(metadata or {}),
            touched=self._clock.time(),
        )
        id = secrets.token_hex(16)
        await self._shelf.uploads.write(shelf.opened(id), codec.encode(state), version=0)
        self._running.begin(id)
        return shelf.as_upload(id, state)

    async def append(self, id: str, offset: int, data: bytes) -> Upload:
        """Add bytes; see `Blobs.append`."""
        if not isinstance(data, bytes) or not isinstance(offset, int) or offset < 0:
            raise errors.BadRequest("store.blobs", "append takes an offset and bytes")
        if len(data) > MAX_APPEND:
            detail = f"at most {MAX_APPEND} bytes are appended at once, not {len(data)}"
            raise errors.TooLarge("store.blobs", detail)
        last = (offset, await asyncio.to_thread(_digest, data))
        while True:
            state = await self._shelf.upload(id)
            if state.size == offset + len(data) and (state.last == last or not data):
                return shelf.as_upload(id, state)
            if state.size != offset:
                detail = f"the upload has {state.size} bytes; go on there, not at {offset}"
                raise errors.Conflict("store.blobs", detail)
            await self._check_size(id, state, len(data))
            try:
                return await self._add(id, state, last, data)
            except errors.Conflict:
                continue  # somebody else appends; the state says what it was

    async def finish(
        self, id: str, digest: str | None, version: int | None, *, again: bool = True
    ) -> Blob:
        """Make it the blob; see `Blobs.finish`.

        Args:
            id: of the upload.
            digest: what its SHA-256 has to be.
            version: what the blob that stands there has to be at.
            again: whether the sender may ask once more.
        """
        if (blob := await self._shelf.finished(id)) is not None:
            return blob
        state = await self._shelf.upload(id)
        hashes = await self._shelf.hashes(id, state.size)
        total = await self._total(id, state, hashes)
        if digest is not None and digest != total:
            await self.discard(id)
            detail = f"what came has the SHA-256 {total}, not {digest!r:.80}; send it again"
            raise errors.BadRequest("store.blobs", detail)
        joined = bytes.fromhex("".join(hashes))
        manifest = Manifest(
            content=id,
            size=state.size,
            sha256=total,
            hashes=_digest(joined),
            content_type=state.content_type,
            metadata=state.metadata,
            created=self._clock.time(),
        )
        return await self._publish(id, state, manifest, joined, version, again=again)

    async def discard(self, id: str) -> None:
        """Give an upload up; one that is not there is no error."""
        self._running.end(id)
        try:
            state = await self._shelf.upload(id)
            await self.abandon(id, state)
        except (errors.NotFound, errors.Conflict):
            return

    async def abandon(self, id: str, state: Open) -> None:
        """Throw away what has come.

        Raises:
            errors.Conflict: something came meanwhile.
        """
        gone = Delete(shelf.opened(id), version=state.version)
        await self._shelf.uploads.batch([gone, self._shelf.thrown_away(id, self._clock.time())])

    async def _add(self, id: str, state: Open, last: tuple[int, str], data: bytes) -> Upload:
        chunks = self._shelf.chunks.scope[1]
        number, there = divmod(state.size, CHUNK)
        ops: list[Op] = []
        whole = data
        if there:
            # The last chunk is not full yet: it is written anew, with what comes behind it.
            keys = await self._shelf.chunks.list(f"{id}/{number:05d}/")
            if len(keys) != 1:
                raise errors.Conflict("store.blobs", "the upload was given up")
            before = await self._shelf.chunk(state.key, id, number, keys[0].rpartition("/")[2])
            whole = before + data
            ops.append(Delete(keys[0], table=chunks))
        pieces = [whole[at : at + CHUNK] for at in range(0, len(whole), CHUNK)]
        digests = await asyncio.to_thread(lambda: [_digest(piece) for piece in pieces])
        for at, (piece, digest) in enumerate(zip(pieces, digests, strict=True)):
            ops.append(Write(shelf.chunk_key(id, number + at, digest), piece, table=chunks))
        grown = msgspec.structs.replace(
            state, size=state.size + len(data), touched=self._clock.time(), last=last, version=0
        )
        ops.append(Write(shelf.opened(id), codec.encode(grown), version=state.version))
        await self._shelf.uploads.batch(ops)
        await self._running.add(id, state.size, data)
        return shelf.as_upload(id, grown)

    async def _check_size(self, id: str, state: Open, more: int) -> None:
        if state.size + more > self._max_size:
            await self.discard(id)
            detail = f"the blob {shown(state.key)} has more than {self._max_size} bytes"
            raise errors.TooLarge("store.blobs", detail)

    async def _total(self, id: str, state: Open, hashes: list[str]) -> str:
        if (known := self._running.total(id, state.size)) is not None:
            return known
        # Begun in another process, or by another replica: read once more.
        total = sha256()
        for number, digest in enumerate(hashes):
            data = await self._shelf.chunk(state.key, id, number, digest)
            await asyncio.to_thread(total.update, data)
        return total.hexdigest()

    async def _publish(
        self,
        id: str,
        state: Open,
        manifest: Manifest,
        hashes: bytes,
        version: int | None,
        *,
        again: bool,
    ) -> Blob:
        here = self._shelf
        key, place = state.key, here.manifests.scope[1]
        while True:
            old = await here.manifest(key)
            current = old[1] if old else 0
            if version is not None and version != current:
                raise errors.Conflict(
                    "store.blobs", f"the blob {shown(key)} is at version {current}, not {version}"
                )
            ops: list[Op] = [
                Write(key, codec.encode(manifest), version=current, table=place),
                Delete(shelf.opened(id), version=state.version),
            ]
            if again:
                blob = codec.encode(manifest.blob(key, 0))
                ops.append(Write(shelf.done(id), blob, expiry=FINISHED))
            if manifest.size > CHUNK:
                ops.append(Write(id, hashes, table=here.chunks.scope[1]))
            if old:
                ops.append(here.thrown_away(old[0].content, self._clock.time() + shelf.KEEP))
            try:
                made = await here.uploads.batch(ops)
            except errors.Conflict:
                if (known := await here.finished(id)) is not None:
                    return known
                now = await here.upload(id)
                if now.version != state.version:
                    raise errors.Conflict(
                        "store.blobs", "bytes came while the upload was being finished"
                    ) from None
                continue
            self._running.end(id)
            return manifest.blob(key, made)


class _Running:
    """The hashes of contents as they come, so that none is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def begin(self, id: str) -> None:
        self._known[id] = 0, sha256()
        if len(self._known) > MAX_OPEN:
            self._known.popitem(last=False)

    def end(self, id: str) -> None:
        self._known.pop(id, None)

    def total(self, id: str, size: int) -> str | None:
        """The hash of so many bytes, if all of them came through here."""
        known, total = self._known.get(id, (-1, None))
        return total.hexdigest() if total is not None and known == size else None

    async def add(self, id: str, offset: int, data: bytes) -> None:
        # Out of sight meanwhile: who comes in between is not known of, and all is read again.
        size, total = self._known.pop(id, (-1, None))
        if total is not None and size == offset:
            await asyncio.to_thread(total.update, data)
            self._known[id] = size + len(data), total


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
