"""What is told of a blob and of an upload, and how large they may be."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from microcosmos.base import errors
from microcosmos.store import checks
from microcosmos.store.backend import shown
from microcosmos.store.interface import Write

MAX_BLOB = 16 * 1024 * 1024 * 1024
"""The longest blob, in bytes."""

CHUNK = 1024 * 1024
"""Bytes of a stored chunk; the last one of a blob may have fewer."""

MAX_APPEND = 4 * CHUNK
"""The most bytes of one `Blobs.append`."""

MAX_OPEN = 256
"""The most uploads to one table at a time."""

MAX_METADATA = 8 * 1024
"""The longest metadata of a blob, in characters, content type included."""

BINARY = "application/octet-stream"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob.

    Attributes:
        key: its name.
        size: in bytes.
        sha256: of the content, in hexadecimal.
        content_type: as its writer called it.
        metadata: notes of its writer.
        created: when this content was complete, in seconds since the epoch.
        version: grows with each content, as that of a record does.
    """

    key: str
    size: int
    sha256: str
    content_type: str = BINARY
    metadata: dict[str, str] = {}
    created: float = 0
    version: int = 0


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as its sender sees it.

    Attributes:
        id: names it; who does not know it cannot touch it.
        key: of the blob that it becomes.
        size: how many bytes have arrived; the next ones go there.
    """

    id: str
    key: str
    size: int = 0


def check(key: str, content_type: str, metadata: Mapping[str, str]) -> None:
    """Refuse what no blob may be called.

    Raises:
        errors.BadRequest: the key, content type or metadata is no text, or empty.
        errors.TooLarge: the key or the metadata is too long.
    """
    checks.op(Write(key, b"", metadata=metadata))
    if not isinstance(content_type, str) or not content_type.isprintable() or not content_type:
        raise errors.BadRequest("store.blobs", f"{content_type!r:.80} is no content type")
    size = sum(len(name) + len(text) for name, text in metadata.items()) + len(content_type)
    if size > MAX_METADATA:
        detail = f"the metadata of a blob has at most {MAX_METADATA} characters, not {size}"
        raise errors.TooLarge("store.blobs", detail)


def span(blob: Blob, offset: int, length: int | None) -> tuple[int, int]:
    """The first byte of a part of a blob, and the one behind it.

    Raises:
        errors.BadRequest: it begins behind the end, or is no part.
    """
    for number, what in ((offset, "offset"), (0 if length is None else length, "length")):
        if not isinstance(number, int) or number < 0:
            raise errors.BadRequest(
                "store.blobs", f"{what} is a number of bytes, not {number!r:.80}"
            )
    if offset > blob.size:
        detail = f"the blob {shown(blob.key)} has {blob.size} bytes, none at {offset}"
        raise errors.BadRequest("store.blobs", detail)
    end = blob.size if length is None else min(blob.size, offset + length)
    return offset, end
