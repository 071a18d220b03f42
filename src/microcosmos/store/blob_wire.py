"""What travels between the store service and those who ask it for blobs; the names are Micro v3's.

What Micro has not are the fields ``table``, ``offset``, ``length``, ``metadata``, ``version``,
``sha256``, ``limit`` and ``after``, and uploads in several calls.
"""

from __future__ import annotations

import msgspec

from .blobs import Blob
from .blobs.blob import BINARY


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Whose blobs.

    Attributes:
        namespace: empty is that of the call.
        table: empty is the caller's own.
    """

    namespace: str = ""
    table: str = ""


class BlobOptions(Where, frozen=True, kw_only=True, rename={"content_type": "contentType"}):
    """Whose blobs, and what a new one is.

    Attributes:
        public: refused; it is here because Micro has it.
        content_type: empty is ``application/octet-stream``.
    """

    public: bool = False
    content_type: str = ""


class BlobReadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Read` takes: ``length`` bytes from ``offset`` on, or all the rest."""

    key: str
    options: BlobOptions = BlobOptions()
    offset: int = 0
    length: int | None = None


class BlobReadResponse(msgspec.Struct, frozen=True):
    """A message of `BlobStore.Read`: the next bytes, at most 1 MiB."""

    blob: bytes


class BlobWriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A message to `BlobStore.Write`: all of it in the first one, then the next bytes alone.

    Attributes:
        key: the blob's name.
        options: whose, and what it is.
        blob: the next bytes.
        metadata: notes to keep with it.
        version: compare-and-set; 0 for only if there is none.
        sha256: of the whole content, in hexadecimal: what comes has to be that.
    """

    key: str = ""
    options: BlobOptions = BlobOptions()
    blob: bytes = b""
    metadata: dict[str, str] = {}
    version: int | None = None
    sha256: str = ""


class BlobInfo(Blob, frozen=True, kw_only=True):
    """What is told of a blob."""

    content_type: str = msgspec.field(default=BINARY, name="contentType")


class BlobInfoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Info` takes."""

    key: str
    options: BlobOptions = BlobOptions()


class BlobDeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Delete` takes."""

    key: str
    options: BlobOptions = BlobOptions()
    version: int | None = None


class BlobListOptions(Where, frozen=True, kw_only=True):
    """Which blobs `BlobStore.List` and `BlobStore.Page` give.

    Attributes:
        prefix: how their keys begin.
        limit: at most so many, 0 for all.
        after: a cursor: only keys beyond this one.
    """

    prefix: str = ""
    limit: int = 0
    after: str = ""


class BlobListRequest(msgspec.Struct, frozen=True):
    """What `BlobStore.List` and `BlobStore.Page` take."""

    options: BlobListOptions = BlobListOptions()


class BlobListResponse(msgspec.Struct, frozen=True):
    """What `BlobStore.List` gives."""

    keys: list[str]


class BlobPage(msgspec.Struct, frozen=True):
    """A part of a list; ``more`` says that other parts follow its last key."""

    blobs: list[BlobInfo]
    more: bool


class BlobBeginRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Begin` takes."""

    key: str
    options: BlobOptions = BlobOptions()
    metadata: dict[str, str] = {}


class BlobAppendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Append` takes: bytes that belong at ``offset``."""

    id: str
    offset: int
    data: bytes = b""
    options: BlobOptions = BlobOptions()


class BlobUploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Upload` and `BlobStore.Discard` take."""

    id: str
    options: BlobOptions = BlobOptions()


class BlobFinishRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `BlobStore.Finish` takes; see `BlobWriteRequest`."""

    id: str
    options: BlobOptions = BlobOptions()
    version: int | None = None
    sha256: str = ""


def shown(blob: Blob) -> BlobInfo:
    """What is told of a blob over rpc."""
    return BlobInfo(**msgspec.structs.asdict(blob))
