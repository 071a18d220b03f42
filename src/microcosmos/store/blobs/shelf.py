"""The records that blobs are made of.

``TABLE$blobs``: a manifest a blob, under its key. ``TABLE$blobs/chunks``: each chunk under
``CONTENT/NUMBER/SHA256``, and under ``CONTENT`` the hashes of all, when there are several.
``TABLE$blobs/uploads``: contents that are not complete. ``TABLE$blobs/trash``: contents that are
no blob's any more. A content is written once and belongs to one of the three; it changes hands in
one batch, so a crash leaves no chunk that nobody knows of.
"""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from typing import TypeVar

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store.backend import shown
from microcosmos.store.interface import Record, Store, Write

from .blob import BINARY, CHUNK, Blob, Upload

T = TypeVar("T")

KEEP = 900.0
"""Seconds for which the old content of a blob stays for those who are reading it."""

_AT_ONCE = 1000
_CONTENT = re.compile(r"[0-9a-f]{32}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Which content a blob has.

    Attributes:
        content: its id.
        hashes: the SHA-256 of the hashes of its chunks, one behind the other.
        size: and the rest: as in `Blob`.
    """

    content: str
    size: int
    sha256: str
    hashes: str
    content_type: str = BINARY
    metadata: dict[str, str] = {}
    created: float = 0

    def blob(self, key: str, version: int) -> Blob:
        """What is told of it."""
        return Blob(
            key=key,
            size=self.size,
            sha256=self.sha256,
            content_type=self.content_type,
            metadata=self.metadata,
            created=self.created,
            version=version,
        )


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """An upload: what the blob will be, and how far it is.

    Attributes:
        touched: when the last bytes came, in seconds since the epoch.
        last: where those began, and their SHA-256, so that they may come twice.
        version: of this record.
    """

    key: str
    content_type: str = BINARY
    metadata: dict[str, str] = {}
    size: int = 0
    touched: float = 0
    last: tuple[int, str] = (0, "")
    version: int = 0


class Shelf:
    """The tables.

    Args:
        table: that the blobs are a part of.
    """

    def __init__(self, table: Store) -> None:
        self.manifests = table.part("blobs")
        self.chunks = table.part("blobs/chunks")
        self.uploads = table.part("blobs/uploads")
        self.trash = table.part("blobs/trash")

    async def manifest(self, key: str) -> tuple[Manifest, int] | None:
        """The manifest of a blob and its version, if there is one."""
        record = await find(self.manifests, key)
        return (decoded(record, Manifest), record.version) if record else None

    async def upload(self, id: str) -> Open:
        """An upload that is not complete.

        Raises:
            errors.NotFound: there is none.
        """
        known = isinstance(id, str) and _CONTENT.fullmatch(id)
        record = await find(self.uploads, opened(id)) if known else None
        if record is None:
            detail = "there is no such upload (any more); begin it again"
            raise errors.NotFound("store.blobs", detail)
        return opening(record)

    async def finished(self, id: str) -> Blob | None:
        """What an upload became a short while ago."""
        known = isinstance(id, str) and _CONTENT.fullmatch(id)
        record = await find(self.uploads, done(id)) if known else None
        if record is None:
            return None
        # Written with the manifest, so it has the same version.
        return msgspec.structs.replace(decoded(record, Blob), version=record.version)

    async def hashes(self, content: str, size: int) -> list[str]:
        """The hashes of the chunks of a content that has just come.

        Raises:
            errors.Error: chunks are missing.
        """
        found: list[str] = []
        after = ""
        while page := await self.chunks.list(f"{content}/", limit=_AT_ONCE, after=after):
            found += [key.rpartition("/")[2] for key in page]
            after = page[-1]
        if len(found) != chunk_count(size):
            raise damaged(f"the upload has {len(found)} chunks, not {chunk_count(size)}")
        return found

    async def hashes_of(self, key: str, manifest: Manifest) -> list[str]:
        """The hashes of the chunks of a blob, verified.

        Raises:
            errors.Error: they are damaged.
        """
        if manifest.size <= CHUNK:
            return [manifest.sha256] if manifest.size else []
        record = await find(self.chunks, manifest.content)
        value = record.value if record else b""
        if sha256(value).hexdigest() != manifest.hashes:
            raise damaged(f"the list of chunks of the blob {shown(key)} is {_how(record)}")
        return [value[at : at + 32].hex() for at in range(0, len(value), 32)]

    async def chunk(self, key: str, content: str, number: int, digest: str) -> bytes:
        """A chunk of a blob, verified.

        Raises:
            errors.Error: it is damaged.
        """
        record = await find(self.chunks, chunk_key(content, number, digest))
        # Not on the loop: a chunk takes about a millisecond.
        if record is None or await asyncio.to_thread(_digest, record.value) != digest:
            raise damaged(f"chunk {number} of the blob {shown(key)} is {_how(record)}")
        return record.value

    def thrown_away(self, content: str, due: float) -> Write:
        """What says that a content is no blob's any more, and when it may be removed."""
        return Write(content, codec.encode(due), table=self.trash.scope[1])


def opening(record: Record) -> Open:
    """The state of an upload."""
    return msgspec.structs.replace(decoded(record, Open), version=record.version)


def chunk_key(content: str, number: int, digest: str) -> str:
    """The key of a chunk."""
    return f"{content}/{number:05d}/{digest}"


def chunk_count(size: int) -> int:
    """How many chunks a content of that size has."""
    return -(-size // CHUNK)


def opened(id: str) -> str:
    """The key of an upload that is not complete."""
    return f"open/{id}"


def done(id: str) -> str:
    """The key of what an upload became."""
    return f"done/{id}"


def damaged(what: str) -> errors.Error:
    """The error of content that is not what was written."""
    return errors.Error("store.blobs", f"{what}; write it again", code=500)


def decoded(record: Record, kind: type[T]) -> T:
    """The value of one of these records."""
    value: T = codec.decode(record.value, kind)
    return value


def as_upload(id: str, state: Open) -> Upload:
    """What the sender of an upload sees."""
    return Upload(id=id, key=state.key, size=state.size)


async def find(store: Store, key: str) -> Record | None:
    """The record of a key, or None."""
    try:
        return await store.read(key)
    except errors.NotFound:
        return None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _how(record: Record | None) -> str:
    return "missing" if record is None else "damaged"
