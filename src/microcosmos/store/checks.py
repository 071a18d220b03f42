"""What may be stored: bad input is refused here, once, in front of every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microcosmos.base import errors

from .backend import Query, shown
from .interface import MAX_KEY, MAX_VALUE, Check, Delete, Op, Write

_MAX_NAME = 100
_MAX_COUNT = 2**53  # what JSON carries exactly


def key(text: str) -> str:
    """Return a key when it is a good one: text that is not empty and not too long."""
    if not isinstance(text, str) or not text:
        raise _bad(f"a key is text and not empty, not {text!r:.80}")
    if len(text) * 4 > MAX_KEY:
        _size(f"the key {shown(text)}", len(_utf8(text)), MAX_KEY)
    elif not text.isascii():
        _utf8(text)
    return text


def name(text: str, what: str) -> str:
    """Return the name of a table or database when it is a good one."""
    if isinstance(text, str) and 0 < len(text) <= _MAX_NAME and text.isprintable():
        return text
    raise _bad(f"{text!r:.80} is no name of a {what}: use up to {_MAX_NAME} printable characters")


def query(**fields: Any) -> Query:
    """The query of these arguments of `Store.read`."""
    asked = Query(**fields)
    for field in ("prefix", "suffix", "start", "end", "after"):
        text = getattr(asked, field)
        if not isinstance(text, str):
            raise _bad(f"{field} is text, not {text!r:.80}")
        _utf8(text)
    for field in ("limit", "offset", "max_bytes"):
        _count(getattr(asked, field), field)
    if asked.order not in ("asc", "desc"):
        raise _bad(f"order is asc or desc, not {asked.order!r:.80}")
    return asked


def watch(prefix: str, since: int | None) -> tuple[str, int | None]:
    """Return the arguments of `Store.watch` when they are good ones."""
    query(prefix=prefix)
    if since is not None:
        _count(since, "since")
    return prefix, since


def batch(ops: Sequence[Op], table: str) -> None:
    """Check each op, and that no record occurs twice; ``table`` is where ops are that name none."""
    seen = set()
    for each in ops:
        op(each)
        if (place := (each.table or table, each.key)) in seen:
            raise _bad(f"the key {shown(each.key)} occurs twice in one batch")
        seen.add(place)


def op(asked: Op) -> None:
    """Check one write or delete."""
    if not isinstance(asked, Write | Delete | Check):
        raise _bad(f"a batch is of Write, Delete and Check, not {type(asked).__name__}")
    key(asked.key)
    if asked.table:
        name(asked.table, "table")
    if asked.version is not None or isinstance(asked, Check):
        _count(asked.version, "version")
    if isinstance(asked, Write):
        _content(asked)


def _content(write: Write) -> None:
    if not isinstance(write.value, bytes):
        raise _bad(f"a value is bytes, not {type(write.value).__name__}; `set` takes any value")
    _size(f"the value of {shown(write.key)}", len(write.value), MAX_VALUE)
    if not isinstance(write.expiry, int | float) or not 0 <= write.expiry <= _MAX_COUNT:
        raise _bad(f"expiry is a number of seconds, 0 for never, not {write.expiry!r:.80}")
    _metadata(write.metadata)


def _metadata(notes: Mapping[str, str]) -> None:
    if not isinstance(notes, Mapping):
        raise _bad(f"metadata is a mapping, not {type(notes).__name__}")
    for pair in notes.items():
        if not all(isinstance(part, str) for part in pair):
            raise _bad(f"metadata is of text by text, not {pair!r:.80}")
        _utf8("".join(pair))


def _count(number: int | None, what: str) -> None:
    if not isinstance(number, int) or not 0 <= number <= _MAX_COUNT:
        raise _bad(f"{what} is a number from 0 to {_MAX_COUNT}, not {number!r:.80}")


def _size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise errors.TooLarge("store", f"{what} has {size} bytes; at most {limit} are stored")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _bad(f"{shown(text)} is not valid Unicode") from None


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest("store", detail)
