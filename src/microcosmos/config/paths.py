r"""Paths: ``helloworld.keywithsubs.subkey1`` is a key in a map in a map.

A dot or a backslash that belongs to a key is written after a backslash: ``hosts.example\.com``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from microcosmos.base import errors

MAX_PATH = 1024
"""The longest path, in characters."""

MAX_KEY = 256
"""The longest key of a map, in characters."""

MAX_DEPTH = 32
"""How deep maps and lists may be nested, from the top of the document."""

Path = tuple[str, ...]
"""The keys of a path; none of them is the whole document."""

# A key: anything but dots and backslashes, unless a backslash stands before them.
_KEY = re.compile(r"((?:[^.\\]|\\[.\\])+)(\.|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r"[.\\]")


@lru_cache(maxsize=4096)
def parse(text: str) -> Path:
    """The keys of a path; an empty one is the whole document.

    Raises:
        errors.BadRequest: an empty key, a stray backslash, or too long or too deep.
    """
    if not isinstance(text, str):
        raise _bad(f"a path is text, not {text!r:.80}")
    if len(text) > MAX_PATH:
        raise _bad(f"the path {_shown(text)} has {len(text)} characters; at most {MAX_PATH}")
    keys: list[str] = []
    at, more = 0, bool(text)
    while more:
        found = _KEY.match(text, at)
        if found is None:
            raise _malformed(text, at)
        keys.append(check_key(_ESCAPED.sub(r"\1", found[1])))
        at, more = found.end(), bool(found[2])
    check_depth(len(keys))
    return tuple(keys)


def write(path: Path) -> str:
    """A path as it is typed, the inverse of `parse`."""
    return ".".join(_TO_ESCAPE.sub(r"\\\g<0>", key) for key in path)


def check_key(key: str) -> str:
    """Return the key of a map when it is a good one.

    Raises:
        errors.BadRequest: empty, too long, or with what cannot be printed.
    """
    if not key:
        raise _bad("a key of a map is empty; give it a name")
    if len(key) > MAX_KEY:
        raise _bad(f"the key {_shown(key)} has {len(key)} characters; at most {MAX_KEY}")
    if not key.isprintable():
        raise _bad(f"the key {_shown(key)} has characters that cannot be printed")
    return key


def check_depth(depth: int) -> None:
    """Refuse what is nested deeper than `MAX_DEPTH`.

    Raises:
        errors.BadRequest: it is.
    """
    if depth > MAX_DEPTH:
        raise _bad(f"config is at most {MAX_DEPTH} maps and lists deep, this is deeper")


def below(path: Path, parent: Path) -> bool:
    """Whether a path is another one, or below it."""
    return path[: len(parent)] == parent


def overlap(one: Path, other: Path) -> bool:
    """Whether one of two paths is at or below the other."""
    return below(one, other) or below(other, one)


def _malformed(text: str, at: int) -> errors.BadRequest:
    if text[at : at + 1] in (".", ""):
        return _bad(
            f"the path {_shown(text)} has an empty key: write names with single dots between them"
        )
    return _bad(f"the path {_shown(text)}: after a backslash comes a dot or a backslash")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest("config", detail)
