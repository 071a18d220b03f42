"""The contract of the store: records by key, in tables, in databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar, overload

import msgspec

T = TypeVar("T")

Order = Literal["asc", "desc"]
"""Of keys, by code point, which is also the order of their UTF-8 bytes."""

DEFAULT = "micro"
"""The database and the table of whoever names none."""

PLATFORM = "$platform"
"""The database of the platform's records; the store service shows none that begin with ``$``."""

MAX_KEY = 1024
"""The longest key, in bytes of UTF-8."""

MAX_VALUE = 64 * 1024 * 1024
"""The longest value, in bytes; larger things are blobs."""


class Record(msgspec.Struct, frozen=True):
    """What stands under a key.

    Attributes:
        key: its name, unique in its table.
        value: any bytes; the value-level verbs put JSON here.
        metadata: notes that travel with the value.
        expiry: the seconds it had left when it was read; 0 means that it stays.
        version: what a compare-and-set names. It grows with every write to the store, and none
            is given twice, so that a key deleted and written again is seen to have changed.
    """

    key: str
    value: bytes = b""
    metadata: dict[str, str] = {}
    expiry: float = 0
    version: int = 0


class Write(msgspec.Struct, frozen=True, tag="write"):
    """One write of a batch; the fields are those of `Store.write`.

    ``table`` is another table of the same database, empty for the store's own.
    """

    key: str
    value: bytes
    expiry: float = 0
    metadata: Mapping[str, str] = {}
    version: int | None = None
    table: str = ""


class Delete(msgspec.Struct, frozen=True, tag="delete"):
    """One delete of a batch; the fields are those of `Store.delete` and `Write.table`."""

    key: str
    version: int | None = None
    table: str = ""


class Check(msgspec.Struct, frozen=True, tag="check"):
    """A condition of a batch: the record must be at this version, 0 for not be there.

    It changes nothing. With it a batch may depend on records that it does not write.
    """

    key: str
    version: int
    table: str = ""


Op = Write | Delete | Check


class Change(msgspec.Struct, frozen=True):
    """What a watcher is told.

    Attributes:
        key: the record's name.
        version: of the change; it never goes back from one change to the next.
        record: what stands there now; None when it was deleted or has expired.
    """

    key: str
    version: int
    record: Record | None = None


class Store(Protocol):
    """One table of records.

    Records are bytes under a key (`read`, `write`, `batch`); the value-level verbs (`get`, `set`,
    `modify`) put JSON there. Every method raises `errors.BadRequest` for input that cannot be
    stored (an empty key, a negative limit), `errors.TooLarge` above `MAX_KEY` or `MAX_VALUE`, and
    `errors.Unavailable` when the disk is full or the database has gone away: nothing was changed
    then, and a later call may succeed.
    """

    @property
    def scope(self) -> tuple[str, str]:
        """The database and the table; an op of a batch names tables like that."""

    @overload
    async def read(self, key: str) -> Record: ...

    @overload
    async def read(
        self,
        *,
        prefix: str = "",
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
        max_bytes: int = 0,
    ) -> list[Record]: ...

    async def read(
        self,
        key: str | None = None,
        *,
        prefix: str = "",
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
        max_bytes: int = 0,
    ) -> Record | list[Record]:
        """The record of a key, or the records whose keys match.

        Args:
            key: one exact key; goes with none of the others.
            prefix: how the keys begin, to the letter: ``%``, ``_`` and case mean themselves.
            suffix: how they end; prefix and suffix may overlap.
            start: the first key of a range, itself included; whatever the order, the smaller one.
            end: where the range ends, itself excluded; empty for no end.
            limit: at most so many, 0 for all.
            offset: skip so many first; past the end there is nothing.
            order: ``asc`` or ``desc``, by key.
            after: a cursor: only keys beyond this one, in the order asked for.
            max_bytes: stop once the values read have so many bytes, 0 for no such end. One record
                comes whatever its size, so that pages of bounded size reach the end.

        Raises:
            errors.NotFound: no record has that exact key. A prefix that matches none gives [].
        """

    async def write(
        self,
        key: str,
        value: bytes,
        *,
        expiry: float = 0,
        metadata: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> int:
        """Put a record in place of what stood there; it is durable on return.

        Args:
            key: its name, any text.
            value: its bytes.
            expiry: seconds until it is gone, 0 for never.
            metadata: notes to keep with it.
            version: compare-and-set: write only if the record is still at this version, 0 for
                only if there is none.

        Returns:
            The record's new version.

        Raises:
            errors.Conflict: the record is at another version.
        """

    async def delete(self, key: str, *, version: int | None = None) -> None:
        """Remove a record; a key that has none is no error.

        Raises:
            errors.Conflict: a version was named, and the record is at another.
        """

    async def batch(self, ops: Sequence[Op]) -> int:
        """Do all of these writes and deletes, or none; they become visible together.

        Versions are compared with what stood there before the batch, and a key may occur once.
        A `Check` names a version without changing the record.

        Returns:
            The version of every record written; 0 if there were no ops.

        Raises:
            errors.Conflict: one of the records is at another version; nothing was done.
        """

    async def count(
        self, *, prefix: str = "", suffix: str = "", start: str = "", end: str = ""
    ) -> int:
        """How many records match; the arguments are those of `read`."""

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, type: type[T]) -> T | None: ...

    async def get(self, key: str, type: Any = Any) -> Any:
        """The JSON value of a key as ``type``, or None when there is none.

        Raises:
            errors.BadRequest: what stands there is no JSON, or not of that type.
        """

    async def set(self, key: str, value: Any, *, expiry: float = 0) -> None:
        """Store a value as JSON; None deletes."""

    async def has(self, key: str) -> bool:
        """Whether there is a record."""

    async def modify(self, key: str, change: Callable[[Any], Any], type: Any = Any) -> Any:
        """Replace a value by what ``change`` makes of it, without losing anyone else's change.

        ``change`` gets the value, or None when there is none, and returns the new one, or None to
        delete. It runs again when another writer was faster, so it should only compute. Expiry and
        metadata stay.

        Returns:
            The value that was stored.
        """

    def all_keys(
        self, *, prefix: str = "", start: str = "", end: str = "", batch_size: int = 100
    ) -> AsyncIterator[str]:
        """Every key in order, fetched in pages, for tables too large for `list`."""

    async def version(self) -> int:
        """The version of the last change to the store, in any table; 0 before the first.

        What is read after it, followed by a `watch` since it, misses nothing.
        """

    def watch(
        self, *, prefix: str = "", since: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Be told of changes in this table, in the order of their versions, until the end of it.

        On entry it is active: a write that begins after it is seen. The changes of one batch come
        one after another with one version. Of several changes of one key a watcher that is behind
        may see the last one only. Writers never wait for it. While the database is away it waits,
        and goes on where it was. A record that expires is told of when it is removed, within
        `PURGE_EVERY` seconds.

        Args:
            prefix: how the keys begin.
            since: the version after which changes are wanted, those made before now included;
                None for those from now on.

        Raises:
            errors.Conflict: on entry, or from the iterator: deletes after ``since`` are forgotten
                already, or the store has not come to that version yet (it was replaced): read
                anew, then watch since the `version` before that.
            errors.Unavailable: on entry: the database is away; from the iterator: the store was
                closed.
        """

    def frozen(self) -> AbstractAsyncContextManager[Store]:
        """This table, and by `table` all others, for reading as of one version, while entered.

        Writes that follow are not seen. Not every backend can: over RPC it is the table itself.
        """

    def table(self, name: str = "", *, database: str = "") -> Store:
        """Another table, here or in another database; it exists while it has records."""

    def part(self, name: str) -> Store:
        """A table ``TABLE$NAME`` beside this one that belongs to it, as its indexes and blobs do.

        Who may use the table may use its parts. They are no tables that people see.
        """

    async def tables(self) -> list[str]:
        """The tables of this database that have records, sorted."""

    async def databases(self) -> list[str]:
        """The databases that have records, sorted."""

    # Last, because after it the name means this method to a type checker.
    async def list(
        self,
        prefix: str = "",
        *,
        suffix: str = "",
        start: str = "",
        end: str = "",
        limit: int = 0,
        offset: int = 0,
        order: Order = "asc",
        after: str = "",
    ) -> list[str]:
        """The keys that match; the arguments are those of `read`."""
