"""The entries of one version of an index, and of each record the entries that it has.

A table of the database has three kinds of records. ``e…``: an entry, under its index key and the
key of its record, so that their order is the index's. ``r…``: what stands behind a record, named
after its key, so that a later change finds the entries to remove. ``x…``: a record that the indexer
failed on. All of a record's change in one batch, and each says which version of the record it is
for: what is for another is not shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store.interface import MAX_KEY, Delete, Op, Order, Record, Store, Write

from . import order
from .entry import Entry
from .order import IndexKey

_LONGEST_NAME = MAX_KEY - 500  # beside the longest index key
_ENTRY, _BEHIND, _HASHED, _FAILED = "e", "r", "s", "x"


class Behind(msgspec.Struct, frozen=True):
    """What stands behind a record.

    Attributes:
        key: the record's.
        of: the version of the record that was indexed; 0 if both were written in one batch and
            have the same.
        entries: the names of its entries.
        version: of this itself, 0 if there is none.
    """

    key: str
    of: int = 0
    entries: list[str] = []
    version: int = 0

    @property
    def indexed(self) -> int:
        """The version of the record that was indexed; 0 if none was."""
        return self.of or self.version


class Found(msgspec.Struct, frozen=True):
    """An entry as it is stored.

    Attributes:
        key: of its record.
        index_key: under which it stands.
        inline: what the indexer put there.
        of: as in `Behind`; once read, never 0.
        name: its own key, without which it is not stored.
    """

    key: str
    index_key: IndexKey
    inline: msgspec.Raw = msgspec.Raw(b"null")
    of: int = 0
    name: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why a record has no entries."""

    key: str
    reason: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an index: the names of its entries, in an order, from behind a cursor."""

    prefix: str = ""
    start: str = ""
    end: str = ""
    after: str = ""
    order: Order = "asc"


class Generation:
    """The entries of one version of an index.

    Args:
        store: the table that has them.
    """

    def __init__(self, store: Store) -> None:
        self.name = store.scope[1]
        self._store = store

    async def page(self, span: Span, limit: int) -> list[Found]:
        """The next entries of a span."""
        records = await self._store.read(
            prefix=_ENTRY + span.prefix,
            start=_ENTRY + span.start if span.start else "",
            end=_ENTRY + span.end if span.end else "",
            after=_ENTRY + span.after if span.after else "",
            order=span.order,
            limit=limit,
        )
        return [_found(record) for record in records]

    async def entry(self, name: str) -> Found | None:
        """An entry by its name."""
        record = await find(self._store, _ENTRY + name)
        return _found(record) if record else None

    async def behind(self, key: str) -> Behind:
        """What stands behind a record; without entries and version if it never was indexed."""
        return _behind(key, await find(self._store, _of(key)))

    async def behind_all(self, keys: Sequence[str]) -> dict[str, Behind]:
        """What stands behind the records of a page, which is in order."""
        first, last = _of(keys[0]), _of(keys[-1])
        found = {}
        if first[0] == last[0] == _BEHIND:
            # What is there between the keys is theirs, or of records that are gone.
            page = await self._store.read(start=first, end=last + "\x00", limit=2 * len(keys))
            found = {record.key: record for record in page}
            if len(page) < 2 * len(keys):
                return {key: _behind(key, found.get(_of(key))) for key in keys}
        return {key: await self.behind(key) for key in keys}

    async def indexed_keys(self, after: str, limit: int) -> tuple[list[str], str]:
        """Keys of records that something stands behind, and where to go on; empty at the end."""
        # Two kinds of names, which are neighbours.
        end = chr(ord(_HASHED) + 1)
        page = await self._store.read(start=_BEHIND, end=end, after=after, limit=limit)
        keys = [_behind("", record).key for record in page]
        return keys, page[-1].key if page else ""

    async def skipped(self) -> int:
        """How many records the indexer failed on."""
        return await self._store.count(prefix=_FAILED)

    async def failures(self, limit: int) -> list[Failure]:
        """The first records that the indexer failed on, and why."""
        records = await self._store.read(prefix=_FAILED, limit=limit)
        return [codec.decode(record.value, Failure) for record in records]

    def ops(
        self, old: Behind, entries: Sequence[Entry], *, of: int = 0, expiry: float = 0
    ) -> list[Op]:
        """What makes these the entries of a record, unless somebody was faster.

        Args:
            old: what stands behind it now.
            entries: what shall.
            of: the version of the record; 0 if it is written in the same batch.
            expiry: seconds that the record has left.
        """
        return self._replace(old, _named(old.key, entries, of), of, expiry)

    def failure(self, old: Behind, reason: str, *, of: int, expiry: float = 0) -> list[Op]:
        """What says that a record has no entries, because the indexer failed on it."""
        values = {_FAILED + _of(old.key): codec.encode(Failure(old.key, reason))}
        return self._replace(old, values, of, expiry)

    def removal(self, old: Behind) -> list[Op]:
        """What removes the entries of a record, unless somebody was faster."""
        gone: list[Op] = [Delete(name, table=self.name) for name in old.entries]
        return [*gone, Delete(_of(old.key), version=old.version, table=self.name)]

    def _replace(self, old: Behind, values: dict[str, bytes], of: int, expiry: float) -> list[Op]:
        ops: list[Op] = [
            Delete(name, table=self.name) for name in old.entries if name not in values
        ]
        for name, value in values.items():
            ops.append(Write(name, value, expiry, table=self.name))
        behind = codec.encode(Behind(old.key, of, list(values)))
        ops.append(Write(_of(old.key), behind, expiry, version=old.version, table=self.name))
        return ops


async def find(store: Store, key: str) -> Record | None:
    """The record of a key, or None."""
    try:
        return await store.read(key)
    except errors.NotFound:
        return None


async def find_all(store: Store, keys: Sequence[str]) -> dict[str, Record | None]:
    """The records of keys, those that there are."""
    distinct = list(dict.fromkeys(keys))
    records = await asyncio.gather(*(find(store, key) for key in distinct))
    return dict(zip(distinct, records, strict=True))


def _of(key: str) -> str:
    """The name of what stands behind a record."""
    if len(key.encode()) < MAX_KEY:
        return _BEHIND + key
    return _HASHED + order.digest(key)


def _behind(key: str, record: Record | None) -> Behind:
    if record is None:
        return Behind(key)
    behind: Behind = codec.decode(record.value, Behind)
    return msgspec.structs.replace(behind, version=record.version)


def _found(record: Record) -> Found:
    found: Found = codec.decode(record.value, Found)
    return msgspec.structs.replace(found, of=found.of or record.version, name=record.key[1:])


def _named(key: str, entries: Sequence[Entry], of: int) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    times: Counter[str] = Counter()
    home = order.name(key, _LONGEST_NAME)
    for entry in entries:
        name = f"{_ENTRY}{order.encode(entry.index_key)}{home}"
        inline = msgspec.Raw(codec.encode(entry.inline_value))
        found = Found(key, entry.index_key, inline, of)
        # Numbered, for it may be under one index key more than once.
        values[f"{name}{times[name]:03d}"] = codec.encode(found)
        times[name] += 1
    return values
