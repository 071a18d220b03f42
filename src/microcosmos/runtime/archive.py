"""A folder as one file: packed whole by the client, unpacked without trust by the server."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

import msgspec

from microcosmos.base import errors

from . import folder as folders

# The tar format's own blocks: a header and padding for each member, and the closing zeros.
_MAX_UNPACKED = folders.MAX_SIZE + folders.MAX_FILES * 2048 + 64 * 1024
_MAX_HEADER = 64 * 1024
_CHUNK = 256 * 1024
_ID = "runtime.archive"


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """What went into an archive."""

    hash: str
    files: int
    size: int


def pack(folder: Path, into: BinaryIO) -> Packed:
    """Write a folder as tar.gz; equal folders give equal bytes.

    Raises:
        errors.BadRequest: it has no file, a link leaves it, or a file cannot be read.
        errors.TooLarge: it is over `folder.MAX_SIZE` or `folder.MAX_FILES`.
    """
    found = folders.entries(folder)
    if not found:
        raise errors.BadRequest(_ID, f"{folder} has no files to upload")
    try:
        with (
            gzip.GzipFile(fileobj=into, mode="wb", filename="", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for entry in found:
                _add(tar, entry)
    except OSError as exc:
        raise errors.BadRequest(_ID, f"{folder} could not be packed: {exc}") from None
    size = sum(entry.size for entry in found)
    return Packed(hash=folders.content_hash(found), files=len(found), size=size)


def _add(tar: tarfile.TarFile, entry: folders.Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mode = 0o755 if entry.executable else 0o644
    if entry.target:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        tar.addfile(info)
        return
    info.size = entry.size
    with entry.path.open("rb") as file:
        tar.addfile(info, file)


def unpack(archive: BinaryIO, into: Path) -> list[folders.Entry]:
    """Write an archive's files below an empty folder, trusting nothing in it.

    Files come first and links last, so that nothing is ever written through a link.

    Raises:
        errors.BadRequest: damaged, or a member that has no business in it; the detail names it.
        errors.TooLarge: over the published limits, whatever its headers say.
        errors.Unavailable: no space left.
    """
    try:
        with gzip.GzipFile(fileobj=archive, mode="rb") as zipped:
            stream = _Bounded(zipped)
            with tarfile.open(
                fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Member, errors="strict"
            ) as tar:
                links = _files(tar, into)
            # To the end, where gzip's checksum stands.
            while stream.read(_CHUNK):
                pass
        _links(links, into)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as exc:
        raise errors.BadRequest(_ID, f"the archive is damaged: {exc}") from None
    except OSError as exc:
        raise errors.Unavailable(_ID, f"the archive could not be unpacked: {exc}") from None
    return folders.entries(into, honour_ignore=False)


class _Bounded:
    """A decompressed stream that ends in an error when it is longer than a source may be."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._left = _MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(_CHUNK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise errors.TooLarge(_ID, "the archive unpacks to more than the limit of a source")
        return data


class _Member(tarfile.TarInfo):
    """A header that is refused before its own size makes tarfile read it into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not member.isreg() and not member.isdir() and member.size > _MAX_HEADER:
            raise tarfile.ReadError("a header of more than 64 KiB")
        return member


def _files(tar: tarfile.TarFile, into: Path) -> list[tuple[str, str]]:
    """Write the regular files; answer the links, for later."""
    links: list[tuple[str, str]] = []
    size = 0
    for count, member in enumerate(tar, 1):
        name = _checked_name(member.name)
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        size += member.size
        folders.check_limits(count, size)
        if member.issym():
            links.append((name, member.linkname))
        elif member.isdir():
            _make(into / name, name)
        elif member.isreg() and not member.issparse():
            source = tar.extractfile(member)
            assert source is not None
            _write(source, into / name, name, 0o755 if member.mode & 0o100 else 0o644)
        else:
            raise errors.BadRequest(_ID, f"{name} is neither a file, a folder nor a symbolic link")
    return links


def _checked_name(name: str) -> str:
    shown = name.encode("utf-8", "replace").decode()[:200]
    parts = name.rstrip("/").split("/")
    if name.startswith("/"):
        raise errors.BadRequest(_ID, f"{shown} is an absolute path")
    if ".." in parts:
        raise errors.BadRequest(_ID, f"{shown} leaves the folder")
    if any(ord(letter) < 32 or letter == "\\" for letter in name) or shown != name[:200]:
        raise errors.BadRequest(_ID, f"{shown!r} is no name for a file")
    if any(len(part.encode()) > 255 for part in parts) or len(name) > 1024:
        raise errors.BadRequest(_ID, f"{shown} is too long a name")
    kept = [part for part in parts if part not in ("", ".")]
    if not kept and parts != ["."]:
        raise errors.BadRequest(_ID, "a member has no name")
    return "/".join(kept)


def _make(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise errors.BadRequest(_ID, f"{name}: a file stands where its folder should be") from None


def _write(source: IO[bytes], path: Path, name: str, mode: int) -> None:
    _make(path.parent, name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise errors.BadRequest(_ID, f"{name} is there twice") from None
    with os.fdopen(descriptor, "wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)


def _links(links: list[tuple[str, str]], into: Path) -> None:
    for name, target in links:
        if folders.leaves(name, target):
            raise errors.BadRequest(_ID, f"{name} is a link that leaves the folder (to {target})")
    for name, target in links:
        path = into / name
        if any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(into)):
            raise errors.BadRequest(_ID, f"{name} stands below a link")
        _make(path.parent, name)
        try:
            path.symlink_to(target)
        except FileExistsError:
            raise errors.BadRequest(_ID, f"{name} is there twice") from None
