"""Messages as JSON and back: proto3's mapping, and the plain JSON that services speak."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.schema import Value
from microcosmos.proxy import notation, wire
from microcosmos.proxy.files import describe, message_class
from microcosmos.proxy.messages import Form
from microcosmos.registry import Endpoint

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=8).filter(lambda text: text.isprintable() or text.isspace())
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
BYTES = st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())
# A Value holds doubles, so only whole numbers that a double knows come back as they were.
ANY = st.recursive(
    st.none() | st.booleans() | TEXT | st.integers(-(2**53), 2**53) | st.floats(0.1, 0.9),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=5,
)
SCALARS = {"string": TEXT, "int64": INT64, "float64": DOUBLE, "bool": st.booleans()}
SCALARS |= {"bytes": BYTES, "uint64": st.integers(0, 2**64 - 1), "int32": st.integers(-9, 9)}
INNER = Value(
    type="Inner",
    values=[Value(name="n", type="int64"), Value(name="more", type="map[string]bytes")],
)


def fields() -> dict[str, tuple[Value, Any]]:
    """One field of every type that a shape may have, with values for it."""
    inner = st.fixed_dictionaries(
        {},
        optional={
            "n": INT64,
            "more": st.dictionaries(TEXT, BYTES, min_size=1, max_size=2),
        },
    )
    made: dict[str, tuple[Value, Any]] = {}
    for kind, values in {**SCALARS, "any": ANY, "Inner": inner}.items():
        below = INNER.values if kind == "Inner" else []
        name = kind.lower()
        lists = st.lists(values, min_size=1, max_size=3)
        maps = st.dictionaries(TEXT, values, min_size=1, max_size=3)
        made[name] = (Value(name=name, type=kind, values=below), values)
        made[f"{name}_list"] = (Value(name=f"{name}_list", type=f"[]{kind}", values=below), lists)
        made[f"{name}-map"] = (
            Value(name=f"{name}-map", type=f"map[string]{kind}", values=below),
            maps,
        )
    return made


FIELDS = fields()
EVERYTHING = Value(type="Everything", values=[shape for shape, _ in FIELDS.values()])
FORM = describe("s", [Endpoint(name="S.Call", request=EVERYTHING)]).method("S.Call").request
VALUES = st.fixed_dictionaries({}, optional={name: values for name, (_, values) in FIELDS.items()})


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return (type(one) is type(other) and one == other) or (one == other == 0)


@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_what_a_service_answers_comes_back_as_it_was(value: dict[str, Any]) -> None:
    there = FORM.from_json(encoded(value), "s")
    assert same(json.loads(FORM.to_json(there, "s")), value)


@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_proto3_json_is_what_googles_own_library_makes_of_it(value: dict[str, Any]) -> None:
    message = FORM._kind.FromString(FORM.from_json(encoded(value), "s"))
    shown = json.loads(FORM.to_proto3(encoded(value), "s"))
    assert shown == json.loads(json_format.MessageToJson(message))
    for name, item in shown.items():
        if name in ("int64", "uint64"):
            assert isinstance(item, str)
    back = FORM.from_proto3(encoded(shown), "s")
    assert same(json.loads(back), value)


@given(st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_message_are_a_bad_request_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(errors.BadRequest):
        FORM.to_json(data, "s")


@given(ANY)
@settings(max_examples=100, deadline=None)
def test_json_of_another_shape_is_an_error_of_the_service_and_nothing_else(value: Any) -> None:
    with contextlib.suppress(errors.InternalServerError):
        FORM.from_json(encoded({"int64": value, "inner_list": value}), "s")
    with contextlib.suppress(errors.BadRequest):
        FORM.from_proto3(encoded(value), "s")


def one(kind: str, *values: Value) -> Form:
    shape = Value(type="One", values=[Value(name="f", type=kind, values=list(values))])
    form = describe("s", [Endpoint(name="S.Call", request=shape)]).method("S.Call")
    assert form is not None
    return form.request


@pytest.mark.parametrize(
    ("kind", "given", "there"),
    [
        ("int64", '"9007199254740993"', "9007199254740993"),
        ("int64", "7.0", "7"),
        ("uint64", '"18446744073709551615"', "18446744073709551615"),
        ("float64", '"NaN"', '"NaN"'),
        ("float64", '"-Infinity"', '"-Infinity"'),
        ("float64", "3", "3.0"),
        ("float32", "0.1", "0.1"),
        ("bytes", '"_-8"', '"/+8="'),
        ("any", "null", "null"),
        ("any", "9007199254740992", "9007199254740992"),
        ("any", '{"a":[1.5,null]}', '{"a":[1.5,null]}'),
        ("[]any", "[null,1]", "[null,1]"),
        ("string", '""', '""'),
        ("bool", "false", "false"),
        ("int64", "0", "0"),
    ],
)
def test_forms_that_mean_the_same_are_written_in_one_way(kind, given, there) -> None:
    form = one(kind)
    data = form.from_json(f'{{"f":{given}}}'.encode(), "s")
    assert form.to_json(data, "s").decode() == f'{{"f":{there}}}'
    assert form.from_proto3(f'{{"f":{given}}}'.encode(), "s").decode() == f'{{"f":{there}}}'


@pytest.mark.parametrize("kind", ["string", "int64", "bool", "bytes", "float64", "[]string"])
def test_null_is_a_field_that_is_not_set(kind) -> None:
    form = one(kind)
    assert form.from_json(b'{"f":null}', "s") == b""
    assert form.to_json(b"", "s") == b"{}"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int64", '"1.5"'),
        ("int64", "9223372036854775808"),
        ("int32", "2147483648"),
        ("uint64", "-1"),
        ("bool", '"true"'),
        ("string", "1"),
        ("bytes", '"a"'),
        ("float64", '"nan"'),
        ("[]int64", "1"),
        ("[]int64", "[null]"),
        ("map[string]int64", "[]"),
    ],
)
def test_values_of_another_type_are_refused(kind, given) -> None:
    form = one(kind)
    with pytest.raises(errors.BadRequest, match="f"):
        form.from_proto3(f'{{"f":{given}}}'.encode(), "s")
    with pytest.raises(errors.InternalServerError, match="published shape"):
        form.from_json(f'{{"f":{given}}}'.encode(), "s")


def test_unknown_fields_of_a_client_are_refused_by_name_and_of_a_service_left_out() -> None:
    form = one("string")
    with pytest.raises(errors.BadRequest, match="nope"):
        form.from_proto3(b'{"nope":1}', "s")
    assert form.from_json(b'{"nope":1,"f":"x"}', "s") == b"\x0a\x01x"
    # Field 9 is nobody's: what newer clients send passes by.
    assert form.to_json(b"\x0a\x01x\x48\x01", "s") == b'{"f":"x"}'


@pytest.mark.parametrize("deep", [100, 100_000])
def test_what_is_nested_too_deeply_is_a_bad_request(deep) -> None:
    with pytest.raises(errors.BadRequest):
        one("any").from_proto3(b'{"f":' + b"[" * deep + b"]" * deep + b"}", "s")


def test_an_answer_that_is_no_struct_stands_in_a_field_for_proto3_and_alone_for_services() -> None:
    response = Value(type="[]int64")
    form = describe("s", [Endpoint(name="S.Call", response=response)]).method("S.Call").response
    assert form.to_proto3(b"[1,2]", "s") == b'{"value":["1","2"]}'
    assert form.from_proto3(b'{"value":["1"]}', "s") == b"[1]"
    assert form.to_json(b"", "s") == b"[]"


def test_enums_are_names_and_unknown_ones_numbers() -> None:
    file = notation.read("registry", wire.REGISTRY)
    form = Form(message_class(file, "registry.Event"))
    for told, there in (('"Delete"', b'"Delete"'), ("1", b'"Delete"'), ("7", b"7")):
        data = form.from_json(f'{{"type":{told}}}'.encode(), "registry")
        assert form.to_json(data, "registry") == b'{"type":%s}' % there
    # Zero is not told from nothing where there is no presence.
    assert form.to_json(form.from_json(b'{"type":"Create"}', "registry"), "registry") == b"{}"
    with pytest.raises(errors.BadRequest, match="type"):
        form.from_proto3(b'{"type":"Nope"}', "registry")


def test_the_largest_float_that_is_one() -> None:
    form = one("float32")
    data = form.from_json(b'{"f":3.4028234663852886e38}', "s")
    assert math.isclose(json.loads(form.to_json(data, "s"))["f"], 3.4028235e38)
