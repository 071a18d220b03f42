"""What travels between the store service and those who ask it; the names are Micro v3's."""

from __future__ import annotations

from typing import Literal

import msgspec

from microcosmos.base import errors

from .backend import Query
from .interface import Op, Order, Record

NAME = "store"

UNLISTED = {"micro.unlisted": "true"}
"""Metadata of an endpoint that people need not see."""

MAX_REMOTE_VALUE = 5 * 1024 * 1024
"""The longest value, in bytes, that goes through the store service; larger things are blobs."""

Grant = Literal["read", "write"]
"""What another service may do with a table: ``write`` includes ``read``."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A table.

    Attributes:
        database: the namespace; empty is that of the call.
        table: empty is the caller's own.
    """

    database: str = ""
    table: str = ""


class ReadOptions(Place, frozen=True, kw_only=True):
    """Which records `Store.Read` gives.

    Attributes:
        prefix: the key is how keys begin.
        suffix: the key is how they end.
        limit: at most so many, 0 for all.
        offset: skip so many first.
        order: ``asc`` or ``desc``; empty is ``asc``.
    """

    prefix: bool = False
    suffix: bool = False
    limit: int = 0
    offset: int = 0
    order: str = ""


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Read` takes."""

    key: str = ""
    options: ReadOptions = ReadOptions()


class Records(msgspec.Struct, frozen=True):
    """What `Store.Read` gives."""

    records: list[Record]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A record as `Store.Write` takes it; ``expiry`` is in seconds, 0 for never."""

    key: str
    value: bytes = b""
    expiry: float = 0
    metadata: dict[str, str] = {}
    version: int | None = None


class WriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Write` takes."""

    record: Written
    options: Place = Place()


class Version(msgspec.Struct, frozen=True):
    """The version that a write has made."""

    version: int


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Delete` takes."""

    key: str
    options: Place = Place()
    version: int | None = None


class ListOptions(Place, frozen=True, kw_only=True):
    """Which keys `Store.List` gives."""

    prefix: str = ""
    suffix: str = ""
    limit: int = 0
    offset: int = 0
    order: str = ""


class ListRequest(msgspec.Struct, frozen=True):
    """What `Store.List` takes; one parameter alone would be the whole request."""

    options: ListOptions = ListOptions()


class Keys(msgspec.Struct, frozen=True):
    """What `Store.List` gives."""

    keys: list[str]


class Databases(msgspec.Struct, frozen=True):
    """What `Store.Databases` gives."""

    databases: list[str]


class Tables(msgspec.Struct, frozen=True):
    """What `Store.Tables` gives."""

    tables: list[str]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A query of `Store.Page`, for clients that page through long answers."""

    options: Place = Place()
    query: Query = Query()
    values: bool = True


class PageOf(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer; ``more`` says that other parts follow its last key."""

    records: list[Record] = []
    keys: list[str] = []
    more: bool = False


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Batch` takes: writes and deletes that are done together."""

    ops: list[Op]
    options: Place = Place()


class Number(msgspec.Struct, frozen=True):
    """What `Store.Count` gives."""

    count: int


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Watch` takes."""

    prefix: str = ""
    since: int | None = None
    options: Place = Place()


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of `Store.Watch`; the first one has no key and says that the watch has begun."""

    version: int
    key: str = ""
    record: Record | None = None


class GrantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.Grant` and `Store.Revoke` take.

    Attributes:
        table: which table.
        service: who gets it.
        access: ``read``, or ``write`` as well.
        database: the namespace; empty is that of the call.
    """

    table: str
    service: str
    access: Grant = "read"
    database: str = ""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A table that another service may use."""

    table: str
    service: str
    access: Grant


class Grants(msgspec.Struct, frozen=True):
    """What `Store.Grants` gives."""

    grants: list[Granted]


def order_of(text: str) -> Order:
    """The order that a request means; what is none is refused by the store itself."""
    return text or "asc"  # type: ignore[return-value]


def check_value(key: str, value: bytes) -> bytes:
    """Return a value when it can go through the service.

    Raises:
        errors.TooLarge: it is over `MAX_REMOTE_VALUE`.
    """
    if len(value) <= MAX_REMOTE_VALUE:
        return value
    raise errors.TooLarge(
        NAME,
        f"the value of {key[:80]!r} has {len(value)} bytes; at most {MAX_REMOTE_VALUE} go through "
        "the store service, and larger things are blobs",
    )
