"""What an indexer says of a record, and what an index answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store.backend import shown

from . import order
from .order import IndexKey

MAX_ENTRIES = 1000
"""The most entries of one record in one index."""

MAX_INLINE = 64 * 1024
"""The longest inline value, in bytes of JSON."""

MAX_INLINES = 1024 * 1024
"""The longest inline values of one record in one index together."""

Indexer = Callable[..., Any]
"""Gets a record's JSON value, and its key if it takes two arguments; gives its entries.

None for none, one index key or `Entry`, or any number of these in a list, tuple, set or generator.
It is called again for the same value, so it should only compute.
"""


class Entry(msgspec.Struct, frozen=True):
    """One entry of a record: under which index key, and what to keep beside it, any JSON."""

    index_key: IndexKey
    inline_value: Any = None


class Row(msgspec.Struct, frozen=True):
    """One answer of an index.

    Attributes:
        key: of the record.
        index_key: under which it was found.
        inline_value: what the indexer put there.
        value: the record's, if values were asked for.
        cursor: where the next page goes on, as ``after``.
    """

    key: str
    index_key: IndexKey
    inline_value: Any = None
    value: Any = None
    cursor: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far an index is.

    Attributes:
        id: its name in its table.
        version: of the indexer.
        state: ``ready``, ``checking`` (complete, and compared with the table once more),
            ``rebuilding`` (an older version's entries still serve) or ``building``.
        cursor: the key that the run through the table has come to; empty when there is none.
        skipped: records that the indexer failed on; the log has the reasons.
    """

    id: str
    version: str
    state: str
    cursor: str = ""
    skipped: int = 0


class Reader:
    """Calls an indexer, and refuses what cannot be indexed with the name of index and key.

    Args:
        indexer: the author's function.
        title: names the index in errors.

    Raises:
        errors.BadRequest: it is no function of one or two arguments, or an async one.
    """

    def __init__(self, indexer: Indexer, title: str) -> None:
        self._indexer = indexer
        self._title = title
        self._takes_key = _arguments(indexer, title) == 2

    def entries(self, key: str, value: bytes) -> list[Entry]:
        """The entries of a record.

        Raises:
            errors.BadRequest: the value is no JSON, the indexer failed, or gave what is no entry.
            errors.TooLarge: there are too many entries, or a part of one is too large.
        """
        try:
            entries = self._asked(key, codec.decode(value))
            if sum(map(_checked, entries)) > MAX_INLINES:
                detail = f"its inline values have more than {MAX_INLINES} bytes together"
                raise errors.TooLarge("store.index", detail)
        except errors.TooLarge as exc:
            raise errors.TooLarge("store.index", self._refusal(key, exc.detail)) from None
        except errors.BadRequest as exc:
            raise errors.BadRequest("store.index", self._refusal(key, exc.detail)) from None
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}".removesuffix(": ")
            raise errors.BadRequest("store.index", self._refusal(key, reason)) from exc
        return entries

    def _asked(self, key: str, value: Any) -> list[Entry]:
        said = self._indexer(value, key) if self._takes_key else self._indexer(value)
        if said is None:
            return []
        several = isinstance(said, Iterable) and not isinstance(said, str | bytes | dict)
        entries = []
        for one in said if several else [said]:
            entries.append(one if isinstance(one, Entry) else Entry(one))
            if len(entries) > MAX_ENTRIES:
                raise errors.TooLarge("store.index", f"it gave more than {MAX_ENTRIES} entries")
        return entries

    def _refusal(self, key: str, reason: str) -> str:
        return f"{self._title} cannot take {shown(key)}: {reason[:300]}"


def _checked(entry: Entry) -> int:
    """The size of the inline value."""
    order.encode(entry.index_key)
    try:
        size = len(codec.encode(entry.inline_value)) if entry.inline_value is not None else 0
    except (TypeError, ValueError, RecursionError) as exc:
        raise errors.BadRequest("store.index", f"the inline value is no JSON: {exc}") from None
    if size > MAX_INLINE:
        detail = f"an inline value has at most {MAX_INLINE} bytes, not {size}"
        raise errors.TooLarge("store.index", detail)
    return size


def _arguments(indexer: Indexer, title: str) -> int:
    if not callable(indexer) or inspect.iscoroutinefunction(indexer):
        raise errors.BadRequest("store.index", f"{title} needs a plain function as its indexer")
    try:
        signature = inspect.signature(indexer)
    except (TypeError, ValueError):
        return 1  # a builtin, like str.lower
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = [one for one in signature.parameters.values() if one.kind in kinds]
    needed = [one for one in asked if one.default is inspect.Parameter.empty]
    if len(needed) > 2:
        detail = f"{title} needs an indexer of a value, or of a value and a key"
        raise errors.BadRequest("store.index", detail)
    # A default is the author's own business: `lambda value, field=field: value[field]`.
    return 2 if len(needed) == 2 else 1
