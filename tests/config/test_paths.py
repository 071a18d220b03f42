"""Paths and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.config import paths
from microcosmos.config.paths import MAX_DEPTH, MAX_KEY, MAX_PATH

KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        ("a", ("a",)),
        ("helloworld.keywithsubs.subkey1", ("helloworld", "keywithsubs", "subkey1")),
        (r"hosts.example\.com.port", ("hosts", "example.com", "port")),
        (r"a\\b", ("a\\b",)),
        (r"a\\.b", ("a\\", "b")),
        ("ключ.größe", ("ключ", "größe")),
        ("with space.x", ("with space", "x")),
    ],
)
def test_dots_part_keys_unless_a_backslash_stands_before(text, keys) -> None:
    assert paths.parse(text) == keys
    assert paths.write(keys) == text


@given(st.lists(KEYS, max_size=6))
def test_every_path_can_be_written_and_read(keys) -> None:
    assert paths.parse(paths.write(tuple(keys))) == tuple(keys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (".", "empty key"),
        ("a..b", "empty key"),
        (".a", "empty key"),
        ("a.", "empty key"),
        ("a\\", "after a backslash"),
        (r"a\b", "after a backslash"),
        ("a\nb", "cannot be printed"),
        ("a.\x00", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        ("a" * (MAX_KEY + 1), "at most 256"),
        ("a" * (MAX_PATH + 1), "at most 1024"),
        (".".join("a" * (MAX_DEPTH + 1)), "at most 32"),
    ],
)
def test_what_is_no_path_is_refused_in_one_line(text, told) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        paths.parse(text)
    assert told in caught.value.detail
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 200


def test_the_longest_path_is_one() -> None:
    assert len(paths.parse(".".join("a" * MAX_DEPTH))) == MAX_DEPTH
    assert paths.parse("a" * MAX_KEY) == ("a" * MAX_KEY,)


def test_overlap_is_at_below_or_above() -> None:
    a, ab, ac = ("a",), ("a", "b"), ("a", "c")
    assert paths.overlap(a, ab)
    assert paths.overlap(ab, a)
    assert paths.overlap((), ab)
    assert not paths.overlap(ab, ac)
    assert not paths.overlap(("ab",), a)
