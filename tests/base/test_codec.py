"""Every way that a decoder fails is one BadRequest that says what is wrong, and where."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import codec, errors


class Item(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    name: str = ""


class Order(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]
    notes: dict[str, str] = {}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"items":[{"count":"x"}]}', "$.items[0].count"),
        (b'{"items":[{"count":1},{"count":1,"name":7}]}', "$.items[1].name"),
        (b'{"items":[{}]}', "`count` - at `$.items[0]`"),
        (b'{"items":[{"count":1,"size":2}]}', "`size` - at `$.items[0]`"),
        (b'{"notes":{}}', "`items`"),
        (b'{"items":[],"notes":{"a":1}}', "$.notes[...]"),
        (b"[]", "expected `object`"),
        (b"null", "expected `object`"),
    ],
)
def test_a_wrong_shape_is_told_with_the_path_of_the_field(data: bytes, told: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        codec.decode(data, Order, id="shop")
    assert told in caught.value.detail
    assert caught.value.id == "shop"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"items":[]',
        b"{'items':[]}",
        b'{"items":[],}',
        b"nope",
        b'{"items":[]}x',
        b"\0",
    ],
)
def test_malformed_json_is_bad_input(data: bytes) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        codec.decode(data, Order)
    assert caught.value.detail


@pytest.mark.parametrize(
    "data", [b'"\xff"', b'{"items":[],"notes":{"a":"\xc3("}}', b'"\xed\xa0\x80"']
)
def test_bad_utf_8_is_bad_input_in_those_words(data: bytes) -> None:
    with pytest.raises(errors.BadRequest, match="not valid UTF-8"):
        codec.decode(data)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_bad_input_in_those_words(opening: bytes) -> None:
    with pytest.raises(errors.BadRequest, match="nested too deeply"):
        codec.decode(opening * 100_000)


def test_half_a_character_in_a_text_is_bad_input() -> None:
    with pytest.raises(errors.BadRequest):
        codec.decode('"\ud800"')
    with pytest.raises(errors.BadRequest):
        codec.decode(b'"\\ud800"')


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_bad_input(data: bytes) -> None:
    with contextlib.suppress(errors.BadRequest):
        assert isinstance(codec.decode(data, Order), Order)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_what_is_encoded_is_decoded_the_same(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


def test_json_is_compact_for_machines_and_indented_for_people() -> None:
    value = {"msg": "é", "list": [1]}
    assert codec.encode(value) == '{"msg":"é","list":[1]}'.encode()
    assert codec.indent(codec.encode(value)) == ('{\n  "msg": "é",\n  "list": [\n    1\n  ]\n}')
    assert codec.indent('{"a":1}') == '{\n  "a": 1\n}'
