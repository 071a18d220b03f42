"""The text of an index key sorts as the key does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.store.index import IndexKey
from microcosmos.store.index.order import MAX_INDEX_KEY, encode, name, prefix

TEXTS = st.text("ab\x00\x01\x02~é😀", max_size=5)
NUMBERS = st.one_of(
    st.integers(-(2**64) + 1, 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.0**53, 2**53 + 1, -(2**53) - 1, 1.5, -1.5]),
)
KEYS = st.one_of(st.booleans(), NUMBERS, TEXTS)


def place(key: IndexKey) -> tuple[int, IndexKey]:
    """Where a key stands, as Python compares; it does so exactly, whole numbers and not."""
    return (0 if isinstance(key, bool) else 2 if isinstance(key, str) else 1), key


@given(KEYS, KEYS)
def test_keys_sort_by_kind_and_worth(one: IndexKey, other: IndexKey) -> None:
    first, second = encode(one), encode(other)
    assert (first < second) == (place(one) < place(other))
    assert (first == second) == (place(one) == place(other))


@given(KEYS, KEYS, st.text(max_size=2), st.text(max_size=2))
def test_what_follows_a_key_does_not_change_its_place(
    one: IndexKey, other: IndexKey, tail: str, end: str
) -> None:
    if place(one) < place(other):
        assert encode(one) + tail < encode(other) + end


@given(TEXTS, TEXTS)
def test_a_prefix_is_of_the_texts_that_begin_so(text: str, start: str) -> None:
    assert encode(text).startswith(prefix(start)) == text.startswith(start)


@given(st.lists(st.text("a\x00\x01é", min_size=1, max_size=4), min_size=2, max_size=2, unique=True))
def test_names_of_records_sort_as_their_keys(keys: list[str]) -> None:
    one, other = sorted(keys)
    assert name(one, 500) + "~" < name(other, 500)


def test_long_names_differ_and_stay_within_the_limit() -> None:
    keys = ["é" * 500, "é" * 500 + "a", "é" * 500 + "b"]
    names = {name(key, 300) for key in keys}
    assert len(names) == 3
    assert all(len(one.encode()) <= 300 for one in names)


@pytest.mark.parametrize("key", [None, b"a", [], {}, float("nan"), float("inf"), 2**64, "\ud800"])
def test_no_index_keys(key: object) -> None:
    with pytest.raises(errors.BadRequest):
        encode(key)  # type: ignore[arg-type]


def test_the_longest_index_key() -> None:
    encode("é" * (MAX_INDEX_KEY // 2))
    with pytest.raises(errors.TooLarge, match=f"at most {MAX_INDEX_KEY} bytes"):
        encode("a" * (MAX_INDEX_KEY + 1))
