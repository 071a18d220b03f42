"""`micro store`: read and write records from the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec

from . import wire
from .backend import Query
from .blob_cli import blob, shown
from .interface import Record, Store

F = TypeVar("F", bound=Callable[..., Any])

_SWITCH = "\0switch"
_FOREVER = "n/a"


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...

    def duration(self, text: str, where: str) -> float: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...


@click.group()
def store() -> None:
    """Read and write records."""


store.add_command(blob)


def _place(function: F) -> F:
    """The flags that say which table."""
    for option in (
        click.option("--table", "-t", default="", help="Which table; micro unless said."),
        click.option("--database", "-d", default="", help="Which namespace's; your own."),
    ):
        function = option(function)
    return function


def _page(function: F) -> F:
    """The flags that say which part."""
    for option in (
        click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", help="By key."),
        click.option("--offset", "-o", type=int, default=0, help="Skip so many first."),
        click.option("--limit", "-l", type=int, default=0, help="At most so many; 0 is all."),
    ):
        function = option(function)
    return function


def _part(flag: str, short: str, which: str) -> Callable[[F], F]:
    """A flag that takes a text, or without one means KEY."""
    return click.option(
        flag, short, is_flag=False, flag_value=_SWITCH, default=None, metavar="[TEXT]", help=which
    )


class Row(msgspec.Struct):
    """A record as `read --verbose` shows it."""

    key: str
    value: str
    expiry: str


class Records(list[Record]):
    """Records that are shown by their values."""

    def readable(self) -> str:
        """A value a line."""
        return "\n".join(_text(record.value) for record in self)


@store.command(short_help="Print records")
@click.argument("key", default="")
@_part("--prefix", "-p", "Records whose keys begin so; alone it means KEY.")
@_part("--suffix", "-s", "Records whose keys end so; alone it means KEY.")
@_page
@_place
@click.option("--verbose", "-v", is_flag=True, help="With keys, and the time they have left.")
@click.pass_obj
def read(
    session: Session,
    /,
    key: str,
    prefix: str | None,
    suffix: str | None,
    verbose: bool,
    limit: int,
    offset: int,
    order: str,
    table: str,
    database: str,
) -> Any:
    """Print the value of KEY, or the values of the keys that begin or end so."""
    where = wire.Place(table=table, database=database)
    if prefix is not None or suffix is not None:
        query = _query(key, prefix, suffix, limit, offset, order)
        found = [record for page in _pages(session, where, query) for record in page.records]
    elif not key:
        raise click.UsageError("give a KEY, or --prefix, or --suffix")
    else:
        options = wire.ReadOptions(table=table, database=database)
        answer = session.core(wire.NAME, "Store.Read", wire.ReadRequest(key=key, options=options))
        found = msgspec.json.decode(answer, type=wire.Records).records
    if not verbose or session.output == "json":
        return Records(found) if found or session.output == "json" else None
    return [Row(record.key, _text(record.value), _left(record.expiry)) for record in found] or None


def _query(
    key: str, prefix: str | None, suffix: str | None, limit: int, offset: int, order: str
) -> Query:
    """The query of `read`, whose switches may carry a text or stand for KEY."""
    return Query(
        prefix=_meant("prefix", prefix, key),
        suffix=_meant("suffix", suffix, key),
        limit=limit,
        offset=offset,
        order=wire.order_of(order),
    )


def _meant(flag: str, text: str | None, key: str) -> str:
    """What a switch that may carry a text means; true is how Micro's flags say that they are on."""
    if key and text in (_SWITCH, "true"):
        return key
    if text == _SWITCH:
        raise click.UsageError(f"--{flag} without a text stands for KEY: give one of them")
    if text and key:
        raise click.UsageError(f"give either KEY with --{flag}, or --{flag} {text}")
    return text or ""


@store.command("list", short_help="List keys")
@click.argument("start", default="", metavar="[PREFIX]")
@click.option("--prefix", "-p", default="", help="Keys that begin so, like PREFIX.")
@_page
@_place
@click.pass_obj
def list_(
    session: Session,
    /,
    start: str,
    prefix: str,
    limit: int,
    offset: int,
    order: str,
    table: str,
    database: str,
) -> Iterator[str]:
    """List keys, one a line."""
    if start and prefix and start != prefix:
        raise click.UsageError("give either PREFIX or --prefix")
    query = Query(prefix=start or prefix, limit=limit, offset=offset, order=wire.order_of(order))
    return _keys(_pages(session, wire.Place(table=table, database=database), query, values=False))


def _keys(pages: Iterator[wire.PageOf]) -> Iterator[str]:
    for page in pages:
        for key in page.keys:
            yield shown(key)


@store.command(short_help="Write a record")
@click.argument("key")
@click.argument("value")
@click.option("--expiry", "-e", default="0", metavar="duration", help="Gone after; 0 is never.")
@click.option("--metadata", multiple=True, metavar="key=value", help="Kept beside the value.")
@_place
@click.pass_obj
def write(
    session: Session,
    /,
    key: str,
    value: str,
    expiry: str,
    metadata: tuple[str, ...],
    table: str,
    database: str,
) -> None:
    """Write VALUE under KEY; `-` reads it from the standard input."""
    content = sys.stdin.buffer.read() if value == "-" else value.encode()
    record = wire.Written(
        key=key,
        value=content,
        expiry=session.duration(expiry, "--expiry"),
        metadata=session.pairs("--metadata", metadata),
    )
    session.core(
        wire.NAME,
        "Store.Write",
        wire.WriteRequest(record=record, options=wire.Place(table=table, database=database)),
    )


@store.command(short_help="Delete a record")
@click.argument("key")
@_place
@click.pass_obj
def delete(session: Session, /, key: str, table: str, database: str) -> None:
    """Delete the record of KEY; one that is not there is no error."""
    request = wire.DeleteRequest(key=key, options=wire.Place(table=table, database=database))
    session.core(wire.NAME, "Store.Delete", request)


@store.command(short_help="List the tables of a database")
@click.option("--database", "-d", default="", help="Which namespace's; your own.")
@click.pass_obj
def tables(session: Session, database: str) -> list[str]:
    """List the tables that have records."""
    answer = session.core(wire.NAME, "Store.Tables", {"database": database})
    return msgspec.json.decode(answer, type=wire.Tables).tables


@store.command(short_help="List the databases")
@click.pass_obj
def databases(session: Session) -> list[str]:
    """List the databases that have records; there is one for each namespace."""
    answer = session.core(wire.NAME, "Store.Databases")
    return msgspec.json.decode(answer, type=wire.Databases).databases


@store.command(short_help="Let a service use a table of another")
@click.argument("table")
@click.argument("service")
@click.option("--access", type=click.Choice(["read", "write"]), default="read")
@click.option("--database", "-d", default="", help="Which namespace's; your own.")
@click.pass_obj
def grant(session: Session, table: str, service: str, access: str, database: str) -> None:
    """Let SERVICE use TABLE, which is another's, such as shop or shop/orders."""
    request = {"table": table, "service": service, "access": access, "database": database}
    session.core(wire.NAME, "Store.Grant", request)


@store.command(short_help="Take a grant back")
@click.argument("table")
@click.argument("service")
@click.option("--database", "-d", default="", help="Which namespace's; your own.")
@click.pass_obj
def revoke(session: Session, table: str, service: str, database: str) -> None:
    """Take back that SERVICE may use TABLE."""
    request = {"table": table, "service": service, "database": database}
    session.core(wire.NAME, "Store.Revoke", request)


@store.command(short_help="List the grants")
@click.option("--database", "-d", default="", help="Which namespace's; your own.")
@click.pass_obj
def grants(session: Session, database: str) -> list[wire.Granted] | None:
    """List which services may use tables of others."""
    answer = session.core(wire.NAME, "Store.Grants", {"database": database})
    found = msgspec.json.decode(answer, type=wire.Grants).grants
    return found if found or session.output == "json" else None


_file = click.option("--database", "-d", default="", help="This one only; all that you may read.")
_exact = click.option("--exact", is_flag=True, help="Delete what the source has not.")


@store.command("snapshot", short_help="Copy the store to a file")
@click.option("--destination", default="store.snapshot", metavar="FILE", help="A path or file://.")
@_file
@click.pass_obj
def snapshot_(session: Session, /, destination: str, database: str) -> Copied:
    """Copy the store to a file, which appears when it is whole.

    Records, metadata, expiry and blobs are in it, as they are read: what is written meanwhile may
    be in it or not. The accounts, settings and deployments of the platform are not.
    """
    from .snapshot import snapshot

    copied = asyncio.run(snapshot(_whole(session), _url(destination), database=database))
    return Copied(copied.tables, copied.records, copied.written, copied.deleted)


@store.command("restore", short_help="Write what is in a snapshot")
@click.option("--source", default="store.snapshot", metavar="FILE", help="A path or file://.")
@_file
@_exact
@click.pass_obj
def restore_(session: Session, /, source: str, database: str, exact: bool) -> Copied:
    """Write what is in a snapshot; a damaged one changes nothing.

    Only what differs is written, so a restore that broke off may be run again.
    """
    from .snapshot import restore

    copied = asyncio.run(restore(_whole(session), _url(source), database=database, exact=exact))
    return Copied(copied.tables, copied.records, copied.written, copied.deleted)


@store.command("sync", short_help="Copy from one store to another")
@click.option("--from", "source", default="", metavar="URL", help="This server's unless said.")
@click.option("--to", "destination", default="", metavar="URL", help="This server's unless said.")
@_file
@_exact
@click.pass_obj
def sync_(session: Session, /, source: str, destination: str, database: str, exact: bool) -> Copied:
    """Write to one store what another has, such as postgres://user@host/db or sqlite:///file.

    Only what differs is written. The platform's own records are not copied.
    """
    if source == destination:
        raise click.UsageError("give --from, or --to, or two different ones")
    copied = asyncio.run(_sync(session, source, destination, database, exact))
    return Copied(copied.tables, copied.records, copied.written, copied.deleted)


async def _sync(session: Session, source: str, destination: str, database: str, exact: bool) -> Any:
    from . import open_store
    from .snapshot import sync

    async with AsyncExitStack() as stack:
        ends = [
            await stack.enter_async_context(open_store(url)) if url else _whole(session)
            for url in (source, destination)
        ]
        return await sync(ends[0], ends[1], database=database, exact=exact)


class Copied(msgspec.Struct):
    """What a copy did."""

    tables: int
    records: int
    written: int
    deleted: int

    def readable(self) -> str:
        """In one line."""
        said = f"{self.records} records of {self.tables} tables, {self.written} written"
        return f"{said}, {self.deleted} deleted" if self.deleted else said


class _Line:
    """Carries calls by the session, one at a time; see `client.Caller`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def call(self, endpoint: str, body: bytes) -> bytes:
        return self._session.core(wire.NAME, endpoint, msgspec.Raw(body))

    def stream(self, endpoint: str, body: bytes) -> Any:
        raise NotImplementedError("copies watch nothing")


def _whole(session: Session) -> Store:
    """The server's store, parts of tables included."""
    from .client import RemoteBackend
    from .table import Table

    return Table(RemoteBackend(_Line(session), parts=True))


def _url(file: str) -> str:
    return file if "://" in file else f"file://{Path(file).expanduser().absolute()}"


def _pages(
    session: Session, place: wire.Place, query: Query, *, values: bool = True
) -> Iterator[wire.PageOf]:
    """The parts of an answer, asked for as they are printed."""
    limited, left = query.limit, query.limit
    while True:
        request = wire.Page(options=place, query=query, values=values)
        answer = session.core(wire.NAME, "Store.Page", request)
        page: wire.PageOf = codec.decode(answer, wire.PageOf, id=wire.NAME)
        yield page
        names = [record.key for record in page.records] or page.keys
        left -= len(names)
        if not page.more or not names or (limited and left <= 0):
            return
        query = msgspec.structs.replace(
            query, after=names[-1], offset=0, limit=left * bool(limited)
        )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _left(seconds: float) -> str:
    return f"{seconds:g}s" if seconds else _FOREVER
