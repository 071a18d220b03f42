"""`micro store blob`: read and write blobs from the command line."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors

from . import blob_wire as wire
from .blobs import Upload
from .blobs.blob import MAX_APPEND
from .wire import NAME

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PATIENCE = 120.0
"""Seconds for one step of an upload; the last one may read all of it once more."""

AWAY = 20.0
"""Seconds for which a server that went away in the middle of a blob is asked again."""

_AGAIN = 0.2
_STANDARD = "-"
_PART = ".part"


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    def core(
        self, service: str, endpoint: str, request: Any = None, *, timeout: float = ...
    ) -> bytes: ...

    def stream(self, service: str, endpoint: str, body: bytes) -> Iterator[bytes]: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...


@click.group()
def blob() -> None:
    """Read and write content of any size."""


def _place(function: F) -> F:
    """The flags that say whose blobs."""
    for option in (
        click.option("--table", "-t", default="", help="Which table's; micro's unless said."),
        click.option("--database", "-d", default="", help="Which namespace's; your own."),
    ):
        function = option(function)
    return function


@blob.command(short_help="Print a blob, or write it to a file")
@click.argument("key")
@click.option(
    "--output-file", "-o", default=_STANDARD, metavar="FILE", help="Where to; - is the output."
)
@click.option(
    "--continue", "resume", is_flag=True, help="Go on with FILE.part, which a broken read left."
)
@_place
@click.pass_obj
def read(
    session: Session, /, key: str, output_file: str, resume: bool, table: str, database: str
) -> None:
    """Print the content of KEY as it is, or write it to FILE, which appears when it is whole."""
    if resume and output_file == _STANDARD:
        raise click.UsageError("--continue goes on with a file: give --output-file")
    options = wire.BlobOptions(namespace=database, table=table)
    info = _ask(session, "Info", wire.BlobInfoRequest(key=key, options=options), wire.BlobInfo)
    if output_file == _STANDARD:
        reading = _Reading(session, info, options)
        reading.into(sys.stdout.buffer)
        reading.check("what was printed", "it was replaced meanwhile; read it anew")
        return
    with _told(output_file):
        _to_file(session, info, options, Path(output_file), resume=resume)


def _to_file(
    session: Session, info: wire.BlobInfo, options: wire.BlobOptions, path: Path, *, resume: bool
) -> None:
    part = path.with_name(path.name + _PART)
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder")
    with part.open("a+b" if resume else "w+b") as file:
        reading = _Reading(session, info, options)
        reading.skip(file)
        try:
            reading.into(file)
        except errors.Error as error:
            error.detail += f"; --continue goes on with {part}"
            raise
        reading.check(f"what is in {part}", "read it anew, without --continue")
    part.replace(path)


class _Reading:
    """Reads a blob and knows whether all of it has come."""

    def __init__(self, session: Session, info: wire.BlobInfo, options: wire.BlobOptions) -> None:
        self._session = session
        self._info = info
        self._options = options
        self._total = sha256()
        self._size = 0

    def skip(self, file: IO[bytes]) -> None:
        """Take over what a file has already."""
        file.seek(0)
        while piece := file.read(MAX_APPEND):
            self._count(piece)
        if self._size > self._info.size:
            detail = f"{file.name} has {self._size} bytes, the blob {self._info.size}"
            raise click.UsageError(f"{detail}; read it anew, without --continue")

    def into(self, file: IO[bytes]) -> None:
        """Write what is missing to a file."""
        until = 0.0
        while self._size < self._info.size:
            had = self._size
            try:
                self._rest(file)
                break
            except errors.Unavailable:
                if self._size > had:
                    until = time.monotonic() + AWAY
                if time.monotonic() > until:
                    raise
            time.sleep(_AGAIN)
        file.flush()

    def _rest(self, file: IO[bytes]) -> None:
        request = wire.BlobReadRequest(key=self._info.key, options=self._options, offset=self._size)
        for message in self._session.stream(NAME, "BlobStore.Read", codec.encode(request)):
            piece = msgspec.json.decode(message, type=wire.BlobReadResponse).blob
            self._count(piece)
            file.write(piece)

    def check(self, what: str, hint: str) -> None:
        """Refuse what is not the blob.

        Raises:
            errors.Conflict: it is something else.
        """
        if self._total.hexdigest() != self._info.sha256:
            detail = f"{what} is not the blob {self._info.key[:80]!r}; {hint}"
            raise errors.Conflict("store.blobs", detail)

    def _count(self, piece: bytes) -> None:
        self._total.update(piece)
        self._size += len(piece)


@blob.command(short_help="Write a blob from a file")
@click.argument("key")
@click.argument("file")
@click.option("--content-type", default="", metavar="TYPE", help="What it is, such as image/png.")
@click.option("--metadata", multiple=True, metavar="key=value", help="Kept beside the content.")
@_place
@click.pass_obj
def write(
    session: Session,
    /,
    key: str,
    file: str,
    content_type: str,
    metadata: tuple[str, ...],
    table: str,
    database: str,
) -> Stored:
    """Write the content of FILE under KEY; `-` reads the standard input.

    The blob is there when all of it has come; until then KEY has what it had.
    """
    options = wire.BlobOptions(namespace=database, table=table, content_type=content_type)
    notes = session.pairs("--metadata", metadata)
    begin = wire.BlobBeginRequest(key=key, options=options, metadata=notes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_told(file))
        source = (
            sys.stdin.buffer if file == _STANDARD else stack.enter_context(Path(file).open("rb"))
        )
        upload = _ask(session, "Begin", begin, Upload)
        try:
            info = _send(session, upload, options, source)
        except BaseException:
            # Should this fail too, it is removed as an abandoned one.
            with contextlib.suppress(errors.Error):
                session.core(
                    NAME, "BlobStore.Discard", wire.BlobUploadRequest(id=upload.id, options=options)
                )
            raise
    return Stored(**msgspec.structs.asdict(info))


def _send(
    session: Session, upload: Upload, options: wire.BlobOptions, source: IO[bytes]
) -> wire.BlobInfo:
    total = sha256()
    while piece := source.read(MAX_APPEND):
        total.update(piece)
        more = wire.BlobAppendRequest(id=upload.id, offset=upload.size, data=piece, options=options)
        upload = _patiently(session, "Append", more, Upload)
    finish = wire.BlobFinishRequest(id=upload.id, options=options, sha256=total.hexdigest())
    return _patiently(session, "Finish", finish, wire.BlobInfo)


def _patiently(session: Session, method: str, request: Any, kind: type[T]) -> T:
    """Ask for a step that may be done twice, also of a server that is away for a while."""
    until = time.monotonic() + AWAY
    while True:
        try:
            return _ask(session, method, request, kind)
        except errors.Unavailable:
            if time.monotonic() > until:
                raise
        time.sleep(_AGAIN)


class Stored(wire.BlobInfo, frozen=True, kw_only=True):
    """What `write` has made."""

    def readable(self) -> str:
        """In one line."""
        return f"{self.size} bytes, sha256 {self.sha256}"


class Row(msgspec.Struct):
    """A blob as `list --verbose` shows it."""

    key: str
    size: int
    type: str
    created: str
    sha256: str


@blob.command("list", short_help="List blobs")
@click.argument("prefix", default="")
@click.option("--limit", "-l", type=int, default=0, help="At most so many; 0 is all.")
@click.option("--verbose", "-v", is_flag=True, help="With sizes, types, times and hashes.")
@_place
@click.pass_obj
def list_(
    session: Session, /, prefix: str, limit: int, verbose: bool, table: str, database: str
) -> Any:
    """List the keys of the blobs, one a line, or of those that begin with PREFIX."""
    where = wire.BlobListOptions(namespace=database, table=table, prefix=prefix, limit=limit)
    found = _pages(session, where)
    if not verbose:
        return (shown(one.key) for one in found)
    rows = [_row(one) for one in found]
    return rows if rows or session.output == "json" else None


@blob.command(short_help="Show what is known of a blob")
@click.argument("key")
@_place
@click.pass_obj
def info(session: Session, /, key: str, table: str, database: str) -> bytes:
    """Show the size, hash, content type, time and metadata of KEY."""
    options = wire.BlobOptions(namespace=database, table=table)
    return session.core(NAME, "BlobStore.Info", wire.BlobInfoRequest(key=key, options=options))


@blob.command(short_help="Delete a blob")
@click.argument("key")
@_place
@click.pass_obj
def delete(session: Session, /, key: str, table: str, database: str) -> None:
    """Delete the blob of KEY; one that is not there is no error."""
    options = wire.BlobOptions(namespace=database, table=table)
    session.core(NAME, "BlobStore.Delete", wire.BlobDeleteRequest(key=key, options=options))


def _ask(session: Session, method: str, request: Any, kind: type[T]) -> T:
    answer = session.core(NAME, f"BlobStore.{method}", request, timeout=PATIENCE)
    return msgspec.json.decode(answer, type=kind)


def _pages(session: Session, where: wire.BlobListOptions) -> Iterator[wire.BlobInfo]:
    """The blobs of a list, asked for as they are printed."""
    limited, left = where.limit, where.limit
    while True:
        page = _ask(session, "Page", wire.BlobListRequest(where), wire.BlobPage)
        yield from page.blobs
        left -= len(page.blobs)
        if not page.more or not page.blobs or (limited and left <= 0):
            return
        after = page.blobs[-1].key
        where = msgspec.structs.replace(where, after=after, limit=left * bool(limited))


def shown(key: str) -> str:
    """A key in a line, whatever it holds."""
    return key if key.isprintable() else json.dumps(key)


def _row(one: wire.BlobInfo) -> Row:
    created = datetime.datetime.fromtimestamp(one.created, datetime.UTC)
    when = created.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Row(shown(one.key), one.size, one.content_type, when, one.sha256)


@contextlib.contextmanager
def _told(file: str) -> Iterator[None]:
    """Say of a file in one line why it cannot be read or written."""
    try:
        yield
    except OSError as exc:
        raise click.UsageError(f"{exc.filename or file}: {exc.strerror or exc}") from None
